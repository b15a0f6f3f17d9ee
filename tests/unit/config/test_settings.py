"""Settings: file and environment, errors with file, key and remedy, secrets that do not show."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import config
from config.secrets import SecretBox, SecretError, new_key, secret_box
from config.settings import Settings, SettingsError, check_settings, load_settings


def _write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    return file


def test_defaults() -> None:
    """Without anything: UDP and TCP on 5060, admin on loopback, embedded database; TLS where there is a certificate."""
    settings = load_settings(None, {})
    assert [str(x) for x in settings.effective_listeners] == ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]
    assert (settings.admin_host, settings.admin_port, settings.database) == ("127.0.0.1", 8080, None)
    both = {"SIP_EDGE_TLS_CERTIFICATE": "/c.pem", "SIP_EDGE_TLS_KEY": "/k.pem"}
    assert str(load_settings(None, both).effective_listeners[-1]) == "tls:0.0.0.0:5061"


def test_environment_wins(tmp_path: Path) -> None:
    """Every setting may stand in the environment, lists with commas; DATABASE_URL has its usual name."""
    file = _write(tmp_path, 'realm = "a"\nt1 = 0.1\n[[listeners]]\ntransport = "tls"\n')
    settings = load_settings(
        file,
        {
            "SIP_EDGE_REALM": "b",
            "DATABASE_URL": "postgresql://u:sesame@db/x",
            "SIP_EDGE_LISTENERS": "udp:10.0.0.1:5070=198.51.100.1:5060,tcp:[2001:db8::1]:5060",
            "SIP_EDGE_MEDIA_PORTS": "40000-40999",
            "SIP_EDGE_DIGEST_ALGORITHMS": "MD5",
            "SIP_EDGE_RELAY": "rtpengine",
            "SIP_EDGE_RTPENGINES": "192.0.2.5:2223,[2001:db8::5]:2223*3",
        },
    )
    assert (settings.realm, settings.t1, settings.media_ports) == ("b", 0.1, (40000, 40999))
    assert [str(x) for x in settings.listeners] == ["udp:10.0.0.1:5070", "tcp:[2001:db8::1]:5060"]
    assert (settings.listeners[0].advertised_host, settings.listeners[0].advertised_port) == ("198.51.100.1", 5060)
    assert settings.digest_algorithms == ("MD5",)
    assert [(e.host, e.port, e.weight) for e in settings.rtpengines] == [
        ("192.0.2.5", 2223, 1),
        ("2001:db8::5", 2223, 3),
    ]
    assert settings.database == "postgresql://u:sesame@db/x" and "sesame" not in repr(settings)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """The file can be used from any folder."""
    settings = load_settings(_write(tmp_path, 'data_dir = "data"\n'), {})
    assert settings.data_dir == tmp_path / "data" and settings.key_file == tmp_path / "data" / "secret.key"


def test_settings_are_frozen() -> None:
    """Nobody changes them while the edge runs."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings(None, {}).realm = "x"


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("t9 = 1", {}, ["edge.toml: t9: there is no such setting; see config/example.toml"]),
        ("t1 = -1\nadmin_port = 0", {}, ["edge.toml: t1: ", "edge.toml: admin_port: "]),
        ("t1 =\nt2 = 1", {}, ["edge.toml: is no TOML", "line 1"]),
        ('[[listeners]]\ntransport = "sctp"\nhost = "here"', {}, ["listeners[0].transport: ", "listeners[0].host: "]),
        ('[[listeners]]\ntransport = "tls"', {}, ["listeners: tls:0.0.0.0:5061 needs tls_certificate and tls_key"]),
        ('tls_key = "k.pem"', {}, ["tls_certificate and tls_key: set both or neither"]),
        ("register_min_expires = 900", {}, ["not in rising order"]),
        ("", {"SIP_EDGE_T1": "soon"}, ["environment variable SIP_EDGE_T1: "]),
        ("", {"SIP_EDGE_LISTENERS": "udp"}, ["environment variable SIP_EDGE_LISTENERS: ", "transport:address:port"]),
        ("", {"SIP_EDGE_MEDIA_PORTS": "1"}, ["a range of ports is written 30000-39999"]),
        ('relay = "rtpengine"', {}, ["rtpengines: name at least one"]),
        ("", {"SIP_EDGE_RTPENGINES": "192.0.2.5:2223"}, ['rtpengines: set relay = "rtpengine" as well']),
        ("", {"SIP_EDGE_RTPENGINES": "192.0.2.5"}, ["an rtpengine is written host:port or host:port*weight"]),
        (
            'relay = "rtpengine"\nrelay_socket = "r"',
            {"SIP_EDGE_RTPENGINES": "a:1,a:1"},
            ["relay_socket: ", "named twice"],
        ),
        ('relay_processes = 2\nrelay_socket = "r"', {}, ["relay_processes: counts embedded relays"]),
        ("relay_processes = 4", {"SIP_EDGE_MEDIA_PORTS": "30000-30031"}, ["relay_processes: each wants 8 media ports"]),
        ("", {"SIP_EDGE_LISTENERS": "udp:0.0.0.0:5060,udp:0.0.0.0:5060"}, ["two listen on the same address and port"]),
    ],
)
def test_errors_name_place_and_remedy(tmp_path: Path, text: str, environment: dict[str, str], words: list[str]) -> None:
    """Every error says file or variable, key, and what to write."""
    with pytest.raises(SettingsError) as error:
        load_settings(_write(tmp_path, text), environment)
    for word in words:
        assert word in str(error.value)


def test_what_settings_name_is_checked(tmp_path: Path) -> None:
    """check-config: files that are not there, addresses that are not ours, variables that are no settings."""
    settings = load_settings(
        _write(
            tmp_path,
            'tls_certificate = "c.pem"\ntls_key = "k.pem"\nrelay_socket = "r.sock"\nmedia_address = "198.51.100.77"\n',
        ),
        {"SIP_EDGE_LISTENERS": "udp:198.51.100.77:5060"},
    )
    faults = "\n".join(check_settings(settings, {"SIP_EDGE_REALMS": "x"}))
    for word in ("c.pem cannot be read", "k.pem cannot be read", "r.sock is no socket", "listeners: 198.51.100.77",
                 "media_address: 198.51.100.77", "SIP_EDGE_REALMS: there is no such setting"):  # fmt: skip
        assert word in faults
    assert check_settings(load_settings(_write(tmp_path, ""), {}), {}) == []


def test_the_example_shows_every_setting() -> None:
    """config/example.toml is TOML, holds no setting that does not exist, and names each that does."""
    example = (Path(config.__file__).parent / "example.toml").read_text()
    assert tomllib.loads(example) == {}
    for name in Settings.model_fields:
        assert name in example, name


def test_secrets_at_rest(tmp_path: Path) -> None:
    """Sealed differently each time, opened by the same key; an old key beside the new one still opens."""
    old, new = new_key(), new_key()
    sealed = SecretBox(old).seal("sesame")
    assert sealed != SecretBox(old).seal("sesame") and "sesame" not in sealed
    assert SecretBox(f"{new},{old}").open(sealed) == "sesame"
    with pytest.raises(SecretError, match="same secret_key"):
        SecretBox(new).open(sealed)
    with pytest.raises(SecretError, match="new-key"):
        SecretBox("short")


def test_the_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """The first start makes a key that only its owner reads; later starts use it; a file that was named is not made."""
    settings = load_settings(None, {"SIP_EDGE_DATA_DIR": str(tmp_path / "data")})
    sealed = secret_box(settings).seal("sesame")
    assert settings.key_file.stat().st_mode & 0o777 == 0o600
    assert secret_box(settings).open(sealed) == "sesame"
    with pytest.raises(SecretError, match=r"gone\.key cannot be used"):
        secret_box(load_settings(None, {"SIP_EDGE_SECRET_KEY_FILE": str(tmp_path / "gone.key")}))
