"""What the settings are to the rooms: each in the form in which a room wants them."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from config.settings import Listener as ListenerSettings
from config.settings import Settings
from edge.fax.no_mail import NoMailServer
from edge.observability.hep import HepExport
from edge.sip.flow import Address
from edge.transport.driver import Listener
from edge.transport.guard import GuardLimits
from edge.transport.tls import Tls, TlsFiles
from media.fax.outbox import SmtpServer, SmtpTransport, Transport


def guard_limits(settings: Settings) -> GuardLimits:
    """Limits of the guard, of these settings."""
    return GuardLimits(
        settings.guard_rate,
        settings.guard_burst,
        settings.max_message_bytes,
        settings.guard_connections,
        settings.guard_strangers,
    )


def welcome(settings: Settings) -> tuple[IPv4Network | IPv6Network, ...] | None:
    """Where strangers may come from, by these settings; None: from everywhere."""
    return tuple(map(ip_network, settings.welcome_networks)) if settings.strangers == "silent" else None


def domains(settings: Settings) -> frozenset[str]:
    """The domains that requests may name, by these settings; none: all."""
    return frozenset(d.lower() for d in settings.domains)


def hep_export(settings: Settings) -> HepExport | None:
    """To the capture server of these settings, None where they name none."""
    if settings.hep_server is None:
        return None
    host, _, port = settings.hep_server.rpartition(":")
    password = settings.hep_password.get_secret_value() if settings.hep_password is not None else ""
    return HepExport(host.strip("[]"), int(port), settings.hep_capture_id, password)


def mail_transport(settings: Settings) -> Transport:
    """To the mail server of these settings, or one that says that there is none."""
    if settings.smtp_host is None:
        return NoMailServer()
    password = settings.smtp_password
    return SmtpTransport(
        SmtpServer(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_tls,
            settings.smtp_username,
            password.get_secret_value() if password is not None else None,
            str(settings.smtp_ca_file) if settings.smtp_ca_file is not None else None,
        )
    )


def listener(setting: ListenerSettings, tls: Tls) -> Listener:
    """The socket to listen at, with what it advertises."""
    advertised = Address(setting.advertised_host or setting.host, setting.advertised_port or setting.port)
    context = tls.server(setting.client_certificates) if setting.transport == "tls" else None
    return Listener(setting.transport, Address(setting.host, setting.port), advertised, context)


def tls_files(settings: Settings) -> TlsFiles:
    """Where keys and certificates are, by these settings."""
    return TlsFiles(
        settings.tls_certificate,
        settings.tls_key,
        settings.tls_ca_file,
        settings.tls_client_certificate,
        settings.tls_client_key,
        settings.tls_client_ca_file,
    )
