"""Secrets at rest: what we must send (carriers' passwords) or apply (PDF passwords) is sealed in the database.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256), key from the environment or a file. Several keys are allowed, the
newest first: all open, the first seals.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from config.errors import ConfigError
from config.settings import Settings


class SecretError(ConfigError):
    """A key is missing or of the wrong form, or a sealed secret cannot be opened with it."""


class SecretBox:
    """Seals and opens secrets."""

    __slots__ = ("_fernet",)

    def __init__(self, keys: str) -> None:
        """`keys`: one or more Fernet keys with commas between them, the newest first. Raises SecretError."""
        try:
            self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",") if key.strip()])
        except ValueError:
            raise SecretError(
                "secret_key is no key: it is 32 bytes in url-safe base64; make one with `sip-edge provision new-key`"
            ) from None

    def __repr__(self) -> str:
        return "SecretBox(...)"

    def seal(self, secret: str) -> str:
        """The secret as it is stored; differs each time."""
        return self.seal_bytes(secret.encode()).decode("ascii")

    def seal_bytes(self, data: bytes) -> bytes:
        """Bytes as one line without its end."""
        return self._fernet.encrypt(data)

    def open(self, sealed: str) -> str:
        """The secret in clear. Raises SecretError."""
        return self.open_bytes(sealed.encode("ascii", "replace")).decode()

    def open_bytes(self, sealed: bytes) -> bytes:
        """What `seal_bytes` was given. Raises SecretError."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise SecretError(
                "a sealed secret cannot be opened: all edges of a database need the same secret_key (or the same "
                "secret_key_file); add the old key after the new one with a comma, or set the secret again"
            ) from None


def new_key() -> str:
    """A fresh key."""
    return Fernet.generate_key().decode("ascii")


def secret_box(settings: Settings) -> SecretBox:
    """The box of these settings. Where no key is set, one is made in the data folder, readable by its owner only.

    Raises SecretError.
    """
    if settings.secret_key is not None:
        return SecretBox(settings.secret_key.get_secret_value())
    file = settings.key_file
    try:
        if settings.secret_key_file is None and not file.exists():
            _make(file)
        return SecretBox(file.read_text("ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"secret_key_file: {file} cannot be used ({error})") from None


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
        stream.write(new_key() + "\n")
    try:
        # unlike a rename, a link never replaces what another process made meanwhile
        os.link(aside, file)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
