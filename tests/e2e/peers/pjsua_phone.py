"""One pjsua2 phone in a process of its own: JSON commands on standard input, events on standard output, line by line.

Started by pjsua.py. The library's callbacks run in this one thread, between commands.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

import pjsua2 as pj

_TRANSPORTS = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words).replace("\r", "").replace("\n", "\\n") + "\n")
    sys.stdout.flush()


class Call(pj.Call):  # type: ignore[misc]  # the wheel has no types
    def __init__(self, phone: Phone, account: pj.Account, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(account, call_id)
        self.phone = phone
        self.recorder: pj.AudioMediaRecorder | None = None

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        ident = info.callIdString
        if info.state == pj.PJSIP_INV_STATE_EARLY:
            say("EARLY", info.lastStatusCode, ident)
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            say("ESTABLISHED", ident)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.recorder = None
            if self in self.phone.calls:
                self.phone.calls.remove(self)
            say("CLOSED", info.lastStatusCode, info.lastReason)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()  # kept: it owns the list
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(index)
                self.phone.player.startTransmit(audio)
                if self.recorder is None:
                    self.recorder = self.phone.new_recorder()
                audio.startTransmit(self.recorder)
            say("MEDIA", _MEDIA_STATUS.get(media.status, media.status))

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        say("DTMF", prm.digit)

    def onInstantMessage(self, prm: pj.OnInstantMessageParam) -> None:
        say("TEXT", prm.contentType, prm.msgBody)

    def onInstantMessageStatus(self, prm: pj.OnInstantMessageStatusParam) -> None:
        say("TEXT-ANSWER", prm.code)

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        say("TRANSFER", prm.statusCode, prm.reason)

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        say("TRANSFER-ASKED", prm.dstUri)
        prm.newCall = Call(self.phone, self.phone.account)
        self.phone.calls.append(prm.newCall)

    def onCallReplaced(self, prm: pj.OnCallReplacedParam) -> None:
        say("REPLACED", prm.newCallId)


_MEDIA_STATUS = {
    pj.PJSUA_CALL_MEDIA_NONE: "none",
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "local-hold",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "remote-hold",
    pj.PJSUA_CALL_MEDIA_ERROR: "error",
}


class Account(pj.Account):  # type: ignore[misc]
    def __init__(self, phone: Phone) -> None:
        super().__init__()
        self.phone = phone

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        say("REGISTER", prm.code, prm.expiration, prm.reason)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = Call(self.phone, self, prm.callId)
        self.phone.calls.append(call)
        say("INCOMING", call.getInfo().remoteUri)
        self.phone.answer(call, self.phone.ring_with)


class Phone:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.calls: list[Call] = []
        self.recordings = 0
        self.ring_with = int(settings["ring_with"])
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.maxCalls = 4
        config.uaConfig.userAgent = "pjsua2"
        config.logConfig.level = 5
        config.logConfig.consoleLevel = 0
        config.logConfig.msgLogging = 1
        config.logConfig.filename = f"{settings['folder']}/pjsip.log"
        config.medConfig.clockRate = 8000
        config.medConfig.sndClockRate = 8000
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        config.medConfig.threadCnt = 1
        self.endpoint.libInit(config)

        transport = pj.TransportConfig()
        transport.port = settings["sip_port"]
        transport.boundAddress = settings["address"]
        transport.publicAddress = settings["signalling_address"]
        if settings["transport"] == "tls":
            transport.tlsConfig.method = pj.PJSIP_TLSV1_2_METHOD
            transport.tlsConfig.CaListFile = settings["ca_file"]
            transport.tlsConfig.verifyServer = bool(settings["ca_file"])
            transport.tlsConfig.certFile = settings["certificate"]
            transport.tlsConfig.privKeyFile = settings["key"]
        self.transport = self.endpoint.transportCreate(_TRANSPORTS[settings["transport"]], transport)
        self.endpoint.libStart()
        self.endpoint.audDevManager().setNullDev()
        for index, codec in enumerate(settings["codecs"]):
            self.endpoint.codecSetPriority(codec, 250 - index)
        for codec in self.endpoint.codecEnum2():
            if not any(codec.codecId.startswith(wanted) for wanted in settings["codecs"]):
                self.endpoint.codecSetPriority(codec.codecId, 0)
        self.player = pj.AudioMediaPlayer()
        self.player.createPlayer(f"{settings['folder']}/tone.wav", 0)

        account = pj.AccountConfig()
        account.idUri = settings["aor"]
        if settings["register"]:
            account.regConfig.registrarUri = settings["registrar"]
            account.regConfig.timeoutSec = settings["expires"]
            account.regConfig.retryIntervalSec = 0
        if settings["proxy"]:
            account.sipConfig.proxies.append(settings["proxy"])
        account.sipConfig.transportId = self.transport
        account.sipConfig.authCreds.append(
            pj.AuthCredInfo("digest", "*", settings["auth_username"], 0, settings["password"])
        )
        account.natConfig.sdpNatRewriteUse = 0
        account.natConfig.contactRewriteUse = 0
        account.natConfig.viaRewriteUse = 0
        account.mediaConfig.transportConfig.boundAddress = settings["address"]
        account.mediaConfig.transportConfig.publicAddress = settings["media_address"]
        account.mediaConfig.transportConfig.port = settings["rtp_port"]
        account.mediaConfig.transportConfig.portRange = 30
        account.mediaConfig.lockCodecEnabled = False
        account.mediaConfig.srtpUse = {"off": 0, "optional": 1, "required": 2}[settings["srtp"]]
        account.mediaConfig.srtpSecureSignaling = 0
        account.callConfig.timerUse = (
            pj.PJSUA_SIP_TIMER_OPTIONAL if settings["session_timer"] else pj.PJSUA_SIP_TIMER_INACTIVE
        )
        if settings["session_timer"]:
            account.callConfig.timerMinSESec = 90
            account.callConfig.timerSessExpiresSec = settings["session_timer"]
        account.callConfig.prackUse = pj.PJSUA_100REL_OPTIONAL if settings["prack"] else pj.PJSUA_100REL_NOT_USED
        if settings["prack_required"]:
            account.callConfig.prackUse = pj.PJSUA_100REL_MANDATORY
        self.account = Account(self)
        self.account.create(account)

    def new_recorder(self) -> pj.AudioMediaRecorder:
        self.recordings += 1
        recorder = pj.AudioMediaRecorder()
        recorder.createRecorder(f"{self.settings['folder']}/heard-{self.recordings}.wav")
        return recorder

    def call(self, index: int) -> Call:
        if not self.calls:
            raise ValueError("there is no call")
        return self.calls[index]

    def answer(self, call: Call, status: int, reason: str = "") -> None:
        prm = pj.CallOpParam()
        prm.statusCode = status
        prm.reason = reason
        call.answer(prm)

    # -- commands ----------------------------------------------------------------------------------------------------

    def do_dial(self, target: str, headers: dict[str, str]) -> None:
        call = Call(self, self.account)
        self.calls.append(call)
        prm = pj.CallOpParam(True)
        for name, value in headers.items():
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            prm.txOption.headers.append(header)
        try:
            call.makeCall(target, prm)
        except pj.Error:
            self.calls.remove(call)
            raise

    def do_answer(self, status: int, index: int = -1) -> None:
        self.answer(self.call(index), status)

    def do_hangup(self, status: int, index: int = -1) -> None:
        prm = pj.CallOpParam()
        prm.statusCode = status
        self.call(index).hangup(prm)

    def do_hold(self, index: int = -1) -> None:
        self.call(index).setHold(pj.CallOpParam(True))

    def do_resume(self, index: int = -1) -> None:
        prm = pj.CallOpParam(True)
        prm.opt.flag = pj.PJSUA_CALL_UNHOLD
        self.call(index).reinvite(prm)

    def do_reinvite(self, index: int = -1) -> None:
        self.call(index).reinvite(pj.CallOpParam(True))

    def do_update(self, index: int = -1) -> None:
        self.call(index).update(pj.CallOpParam(True))

    def do_dtmf(self, digits: str, index: int = -1) -> None:
        self.call(index).dialDtmf(digits)

    def do_text(self, content: str, content_type: str, index: int = -1) -> None:
        prm = pj.SendInstantMessageParam()
        prm.contentType, prm.content = content_type, content
        self.call(index).sendInstantMessage(prm)

    def do_transfer(self, target: str, index: int = -1) -> None:
        self.call(index).xfer(target, pj.CallOpParam(True))

    def do_transfer_attended(self, index: int, to: int) -> None:
        self.call(index).xferReplaces(self.call(to), pj.CallOpParam(True))

    def do_unregister(self) -> None:
        self.account.setRegistration(False)

    def do_register(self) -> None:
        self.account.setRegistration(True)

    def do_statistics(self, index: int = -1) -> None:
        rtcp = self.call(index).getStreamStat(0).rtcp
        say("STATISTICS", rtcp.rxStat.pkt, rtcp.txStat.pkt, rtcp.rxStat.loss)


def main() -> None:
    phone = Phone(json.loads(sys.argv[1]))
    commands: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line)
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    say("READY")
    while True:
        phone.endpoint.libHandleEvents(10)
        while not commands.empty():
            line = commands.get()
            if line is None:
                phone.endpoint.hangupAllCalls()
                phone.calls.clear()
                phone.endpoint.libDestroy()
                say("GONE")
                # The interpreter's own end would destroy objects whose library is already gone.
                os._exit(0)
            command = json.loads(line)
            try:
                getattr(phone, "do_" + command.pop("do"))(**command)
                say("DONE")
            except pj.Error as error:
                say("FAILED", error.info())
            except (ValueError, IndexError) as error:
                say("FAILED", error)


main()
