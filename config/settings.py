"""Settings of one edge process: a TOML file, overridden by the environment (`SIP_EDGE_...`, and `DATABASE_URL`).

Frozen once read. Everything about customers and carriers is provisioning and lives in the database instead.
`config/example.toml` shows every setting.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.errors import ConfigError

PREFIX = "SIP_EDGE_"
_LISTENER = re.compile(
    r"(?P<transport>[a-z]+):(?P<host>\[[^\]]+\]|[^:\[\]=]+):(?P<port>\d+)"
    r"(?:=(?P<advertised_host>\[[^\]]+\]|[^:\[\]=]+)(?::(?P<advertised_port>\d+))?)?"
)


_RTPENGINE = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]*]+):(?P<port>\d{1,5})(?:\*(?P<weight>\d{1,3}))?")


class SettingsError(ConfigError):
    """Settings that cannot be used; the text lists all of them, each with file or variable, key and remedy."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _split(value: object) -> object:
    """Lists may be written with commas where they come from the environment."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _port_range(value: object) -> object:
    if isinstance(value, str):
        first, dash, last = value.partition("-")
        if dash and first.strip().isdecimal() and last.strip().isdecimal():
            return (int(first), int(last))
        raise ValueError("a range of ports is written 30000-39999")
    return value


def _address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address") from None
    return value


def _host(value: str) -> str:
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        return str(ip_address(bare))
    except ValueError:
        if not re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", bare):
            raise ValueError("must be an IP address or a host name") from None
        return bare


Address = Annotated[str, BeforeValidator(_address)]
Host = Annotated[str, BeforeValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
Transport = Literal["udp", "tcp", "tls"]


class Listener(BaseModel):
    """A place where the edge listens for SIP, and what it tells others of it (behind NAT, they differ).

    In the environment: `udp:0.0.0.0:5060`, with an advertised address `udp:10.0.0.1:5060=203.0.113.1:5060`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transport: Transport
    host: Address = "0.0.0.0"
    port: Port = 5060
    advertised_host: Host | None = None
    advertised_port: Port | None = None
    client_certificates: Literal["none", "optional", "required"] = "none"
    """TLS only: whether peers are asked for a certificate, which `tls_client_ca_file` must vouch for."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            match = _LISTENER.fullmatch(value)
            if match is None:
                raise ValueError("a listener is written transport:address:port or transport:address:port=host:port")
            found: dict[str, object] = {k: v for k, v in match.groupdict().items() if v is not None}
            return {k: v.strip("[]") if isinstance(v, str) else v for k, v in found.items()}
        if isinstance(value, dict) and value.get("transport") == "tls":
            return {"port": 5061, **value}
        return value

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


class RtpEngine(BaseModel):
    """The ng port of an rtpengine, written `host:port`, or `host:port*weight` for a share of new calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    weight: Annotated[int, Field(ge=1, le=100)] = 1

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            match = _RTPENGINE.fullmatch(value.strip())
            if match is None:
                raise ValueError("an rtpengine is written host:port or host:port*weight")
            found: dict[str, object] = {k: v for k, v in match.groupdict().items() if v is not None}
            return {k: v.strip("[]") if isinstance(v, str) else v for k, v in found.items()}
        return value


Listeners = Annotated[tuple[Listener, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """All settings. Times are in seconds unless they say otherwise; relative paths are relative to the file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, validate_default=True)

    edge_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip(".-_")[:64] or "edge"
    )
    """Names this edge among those that share a database; two processes never share a name."""
    data_dir: Path = Path(".data")
    realm: Annotated[str, Field(pattern=r'^[^"\\\x00-\x1f:]{1,128}$')] = "sip-edge"
    """Digest realm. Stored passwords hold it: it cannot be changed later without setting them all anew."""

    listeners: Listeners = ()
    """Empty: UDP and TCP on 0.0.0.0:5060, and TLS on 5061 where a certificate is set."""
    admin_host: Address = "127.0.0.1"
    admin_port: Port = 8080
    database_url: SecretStr | None = None
    """None: an embedded PostgreSQL in the data folder."""

    tls_certificate: Path | None = None
    """PEM with the chain."""
    tls_key: Path | None = None
    tls_ca_file: Path | None = None
    """Whom we trust when we connect to carriers; None: the system's."""
    tls_client_certificate: Path | None = None
    """Shown to carriers that ask for one; PEM with the chain."""
    tls_client_key: Path | None = None
    tls_client_ca_file: Path | None = None
    """Whom we trust when peers show a certificate (`client_certificates` of a listener)."""
    tls_wildcards: bool = False
    """Accept wildcards in carriers' certificates, which RFC 5922 forbids."""

    relay: Literal["embedded", "rtpengine"] = "embedded"
    """`rtpengine`: the processes that `rtpengines` names, which bridge SRTP to RTP and transcode."""
    relay_socket: Path | None = None
    """Command socket of an embedded relay that runs already; None: the edge runs one of its own."""
    relay_processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many embedded relay processes share the media ports; None: one for each core, more where the limit of file
    descriptors wants it."""
    rtpengines: Annotated[tuple[RtpEngine, ...], NoDecode, BeforeValidator(_split)] = ()
    """Their ng ports."""
    srtp_without_tls: bool = False
    """SRTP keys may stand in signalling that is not encrypted, where whoever listens reads them."""
    media_address: Address = "0.0.0.0"
    media_advertised: Address | None = None
    """The address written into SDP; None: the listener's advertised one, or the media address itself."""
    media_ports: Annotated[tuple[Port, Port], NoDecode, BeforeValidator(_port_range)] = (30000, 39999)

    t1: Annotated[float, Field(gt=0, le=10)] = 0.5
    t2: Annotated[float, Field(gt=0, le=60)] = 4.0
    t4: Annotated[float, Field(gt=0, le=60)] = 5.0
    answer_timeout: Annotated[float, Field(ge=5, le=600)] = 180.0
    """How long a call may ring."""
    max_call_seconds: Annotated[float, Field(ge=60, le=7 * 86400)] = 4 * 3600.0
    media_timeout: Annotated[float, Field(ge=10, le=86400)] = 60.0
    """Silence of both sides after which an answered call is ended."""

    dns_servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Name servers to ask, as `host` or `host:port`; those of the system where none are given."""

    register_min_expires: Annotated[int, Field(ge=10, le=86400)] = 60
    register_default_expires: Annotated[int, Field(ge=10, le=86400)] = 600
    register_max_expires: Annotated[int, Field(ge=10, le=86400)] = 3600
    shared_registrations: bool = False
    """Phones that registered with another edge are called through the proxy in front of both (Path)."""
    digest_algorithms: Annotated[tuple[Literal["SHA-256", "MD5"], ...], NoDecode, BeforeValidator(_split)] = (
        "SHA-256",
        "MD5",
    )
    """Offered to phones and PBXs, best first."""

    secret_key: SecretStr | None = None
    """Fernet key(s) that seal secrets at rest, the newest first, with commas; None: read from `secret_key_file`."""
    secret_key_file: Path | None = None
    """None: `secret.key` in the data folder, made at the first start."""

    guard_rate: Annotated[float, Field(gt=0)] = 100.0
    """Datagrams per second from one source that nobody is registered from."""
    guard_burst: Annotated[float, Field(gt=0)] = 400.0
    guard_connections: Annotated[int, Field(ge=1)] = 500
    """Open connections from one source."""
    connection_timeout: Annotated[float, Field(ge=5, le=600)] = 30.0
    """TCP and TLS: how long a peer may leave what was sent unacknowledged, and be silent until it is probed."""
    guard_strangers: Annotated[float, Field(ge=10)] = 300.0
    """Messages per second over one transport from all sources together where nobody is registered."""
    domains: Annotated[tuple[Host, ...], NoDecode, BeforeValidator(_split)] = ()
    """Host names and addresses that phones and PBXs ask for; who asks for another one over UDP hears nothing. Empty:
    any."""
    strangers: Literal["answer", "register", "silent"] = "answer"
    """What is answered to sources where nobody is registered and that are no carrier or static trunk: all, REGISTER
    alone, or nothing outside of `welcome_networks`."""
    welcome_networks: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Networks that phones may register from, where `strangers` is silent."""
    max_message_bytes: Annotated[int, Field(ge=4096, le=1_048_576)] = 65535

    smtp_host: Host | None = None
    """The mail server that takes received faxes; None: they wait in the database."""
    smtp_port: Port = 587
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    """`tls`: from the start (port 465)."""
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_ca_file: Path | None = None
    """Whom we trust as the mail server; None: the system's."""
    fax_sender: Annotated[str, Field(pattern=r"^[^@\s<>,;]+@[^@\s<>,;]+$")] = "fax@localhost"
    """The address that mails with faxes come from."""

    call_records_keep_days: Annotated[int, Field(ge=1, le=184)] = 184
    """Call records are deleted after so many days."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_mask_numbers: bool = True
    trace_megabytes: Annotated[int, Field(ge=0, le=16384)] = 64
    """Memory for the SIP messages of recent calls (`sip-edge trace`); 0 keeps none."""
    trace_disk_megabytes: Annotated[int, Field(ge=0, le=1_048_576)] = 256
    """Disk for ladders and captures of failed and refused calls, numbers shortened, 7 days; 0 keeps none."""
    hep_server: Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):[0-9]{1,5}$")] | None = None
    """Capture server (Homer) that gets a copy of each SIP message, as `host:port` (UDP, HEPv3)."""
    hep_capture_id: Annotated[int, Field(ge=0, le=4_294_967_295)] = 1
    """This edge's number there."""
    hep_password: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment comes before the file, which is what the constructor is given."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        faults = []
        if (self.tls_certificate is None) != (self.tls_key is None):
            faults.append("tls_certificate and tls_key: set both or neither")
        if (self.tls_client_certificate is None) != (self.tls_client_key is None):
            faults.append("tls_client_certificate and tls_client_key: set both or neither")
        for listener in self.listeners:
            if listener.transport == "tls" and self.tls_certificate is None:
                faults.append(f"listeners: {listener} needs tls_certificate and tls_key")
            if listener.client_certificates != "none":
                if listener.transport != "tls":
                    faults.append(f"listeners: {listener}: client_certificates is for transport tls")
                elif self.tls_client_ca_file is None:
                    faults.append(f"listeners: {listener} asks for certificates; set tls_client_ca_file")
        places = [(listener.transport != "udp", listener.host, listener.port) for listener in self.listeners]
        if len(set(places)) != len(places):
            faults.append("listeners: two listen on the same address and port")
        if not self.register_min_expires <= self.register_default_expires <= self.register_max_expires:
            faults.append("register_min_expires, register_default_expires, register_max_expires: not in rising order")
        if not self.media_ports[1] - self.media_ports[0] >= 7:
            faults.append("media_ports: a call takes 4 ports and more; write a range such as 30000-39999")
        if (self.smtp_username is None) != (self.smtp_password is None):
            faults.append("smtp_username and smtp_password: set both or neither")
        if self.smtp_password is not None and self.smtp_tls == "none":
            faults.append("smtp_tls: a password is not sent in clear; set starttls or tls, or leave the password out")
        if self.relay == "rtpengine" and not self.rtpengines:
            faults.append('rtpengines: name at least one, such as ["192.0.2.5:2223"], or set relay = "embedded"')
        if self.relay == "embedded" and self.rtpengines:
            faults.append('rtpengines: set relay = "rtpengine" as well, or leave them out')
        if self.relay == "rtpengine" and self.relay_socket is not None:
            faults.append("relay_socket: names an embedded relay, and relay is rtpengine; leave one of them out")
        if self.relay_processes is not None and (self.relay == "rtpengine" or self.relay_socket is not None):
            faults.append("relay_processes: counts embedded relays that the edge starts; leave it out")
        elif (self.media_ports[1] - self.media_ports[0] - 1) // 8 < (self.relay_processes or 1):
            faults.append("relay_processes: each wants 8 media ports at least; widen media_ports, or set fewer")
        places_of_relays = [(engine.host, engine.port) for engine in self.rtpengines]
        if len(set(places_of_relays)) != len(places_of_relays):
            faults.append("rtpengines: one is named twice")
        for network in self.welcome_networks:
            try:
                ip_network(network)
            except ValueError as error:
                faults.append(f"welcome_networks: {error}; write 192.0.2.0/24 or 2001:db8::/32")
        if not self.digest_algorithms:
            faults.append("digest_algorithms: at least one of SHA-256 and MD5")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def effective_listeners(self) -> tuple[Listener, ...]:
        """The listeners as set, or the default ones."""
        if self.listeners:
            return self.listeners
        found = [Listener(transport="udp", port=5060), Listener(transport="tcp", port=5060)]
        if self.tls_certificate is not None:
            found.append(Listener(transport="tls", port=5061))
        return tuple(found)

    @property
    def database(self) -> str | None:
        """The database's URL in clear; None: embedded."""
        return self.database_url.get_secret_value() if self.database_url is not None else None

    @property
    def database_folder(self) -> Path:
        """Where the embedded database lives."""
        return self.data_dir / "database"

    @property
    def key_file(self) -> Path:
        """The file with the key that seals secrets."""
        return self.secret_key_file if self.secret_key_file is not None else self.data_dir / "secret.key"


_TLS_PATHS = (
    "tls_certificate", "tls_key", "tls_ca_file", "tls_client_certificate", "tls_client_key", "tls_client_ca_file"
)  # fmt: skip
_PATHS = ("data_dir", *_TLS_PATHS, "relay_socket", "secret_key_file", "smtp_ca_file")


def load_settings(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `file` (TOML, optional) and the environment, which wins. Raises SettingsError."""
    environ = dict(os.environ if environment is None else environment)
    values = _read(file) if file is not None else {}
    base = file.parent.resolve() if file is not None else Path.cwd()
    if environ.get("DATABASE_URL"):
        environ.setdefault(PREFIX + "DATABASE_URL", environ["DATABASE_URL"])
    try:
        settings = _with_environment(environ).model_validate(values)
    except ValidationError as error:
        where = str(file) if file is not None else "settings"
        raise SettingsError([_fault(where, environ, dict(e)) for e in error.errors(include_url=False)]) from None
    except ValueError as error:  # an environment variable that cannot be read as its type
        raise SettingsError([str(error)]) from None
    absolute = {k: base / p for k in _PATHS if (p := cast("Path | None", getattr(settings, k))) is not None}
    return settings.model_copy(update=absolute)


_COMMAND_VARIABLES = frozenset({PREFIX + "CONFIG", PREFIX + "ADMIN"})
"""Options of the command, not settings."""


def check_settings(settings: Settings, environment: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the things that settings name (files, folders, addresses), each with its remedy, and variables
    of the environment that look like settings and are none."""
    faults = [
        f"environment variable {name}: there is no such setting; see config/example.toml for those there are"
        for name in (os.environ if environment is None else environment)
        if name.startswith(PREFIX)
        and name.removeprefix(PREFIX).lower() not in Settings.model_fields
        and name not in _COMMAND_VARIABLES
    ]
    for key in (*_TLS_PATHS, "secret_key_file", "smtp_ca_file"):
        path = cast("Path | None", getattr(settings, key))
        if path is not None and not os.access(path, os.R_OK):
            faults.append(f"{key}: {path} cannot be read; name another file or give this user the right to read it")
    if settings.tls_certificate is not None and settings.tls_key is not None and not faults:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
        except (ssl.SSLError, OSError) as error:
            faults.append(f"tls_certificate: {settings.tls_certificate} cannot be used with tls_key: {error}")
    if settings.tls_ca_file is not None and os.access(settings.tls_ca_file, os.R_OK):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(settings.tls_ca_file)
        except (ssl.SSLError, OSError) as error:
            faults.append(f"tls_ca_file: {settings.tls_ca_file} holds no certificates: {error}")
    if settings.relay_socket is not None and not settings.relay_socket.is_socket():
        faults.append(f"relay_socket: {settings.relay_socket} is no socket; start the relay, or leave the setting out")
    above = settings.data_dir
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        faults.append(f"data_dir: {settings.data_dir} cannot be written; name another folder or create it")
    for listener in settings.effective_listeners:
        if ip_address(listener.host).is_unspecified and listener.advertised_host is None:
            continue  # the address is chosen per flow
        if not ip_address(listener.host).is_unspecified and not _is_ours(listener.host):
            faults.append(f"listeners: {listener.host} is no address of this machine; use one that is, or 0.0.0.0")
    if not ip_address(settings.media_address).is_unspecified and not _is_ours(settings.media_address):
        faults.append(f"media_address: {settings.media_address} is no address of this machine")
    return faults


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _read(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingsError([f"{file}: cannot be read ({error.strerror}); name another file with --config"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: is no TOML: {error}"]) from None


def _with_environment(environ: Mapping[str, str]) -> type[Settings]:
    """Settings that read `environ` and not the process's own environment."""
    lower = {k.lower(): v for k, v in environ.items() if k.startswith(PREFIX) and v != ""}

    class _Environment(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return lower

    class _Settings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            assert isinstance(init_settings, InitSettingsSource)
            return _Environment(settings_cls), init_settings

    return _Settings


def _fault(where: str, environ: Mapping[str, str], error: Mapping[str, object]) -> str:
    location = cast("tuple[str | int, ...]", error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if not location:
        return "\n".join(f"{where}: {line}" for line in message.splitlines())
    variable = PREFIX + str(location[0]).upper()
    if variable in environ:
        name = "DATABASE_URL" if variable.endswith("DATABASE_URL") and "DATABASE_URL" in environ else variable
        where = f"environment variable {name}"
        key = "" if len(location) == 1 else key.removeprefix(str(location[0])).lstrip(".")
    if error["type"] == "extra_forbidden":
        message = "there is no such setting; see config/example.toml for those there are"
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"
