"""The o= lines of one relay session (RFC 3264 section 8): an id and a version for each dialog."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from media.relay.port import Side
from media.sdp.lines import parse
from media.sdp.rewrite import with_origin


class Origins:
    """What each dialog of a session was told last, so that the version rises with a change and with nothing else."""

    __slots__ = ("_id", "_written")

    def __init__(self, session_id: str) -> None:
        self._id = session_id
        # Per dialog: the o= version and a digest of what followed it.
        self._written: dict[str, tuple[int, bytes]] = {}

    def save(self) -> dict[str, int]:
        """The versions, for another process. What followed them is not kept: the next description counts as changed,
        which harms nobody."""
        return {dialog: version for dialog, (version, _) in self._written.items()}

    def restore(self, versions: Mapping[str, int]) -> None:
        """Go on from what `save` gave."""
        self._written.update({dialog: (version, b"") for dialog, version in versions.items()})

    def write(self, rest: str, address: str, origin: Side, leg: str) -> bytes:
        """A description for the dialog that hears side `origin`: our o= line (with `address`) before `rest`."""
        dialog = f"b:{leg}" if origin == "a" else "a"
        version, before = self._written.get(dialog, (0, b""))
        now = blake2b(rest.encode("latin-1"), digest_size=16).digest()
        if now != before:
            version += 1
            self._written[dialog] = (version, now)
        # Not the session's id itself, and another for each dialog: the two sides must not be able to tell that they
        # belong together.
        digest = blake2b(f"{self._id}/{dialog}".encode(), digest_size=8).digest()
        return with_origin(rest, address, int.from_bytes(digest) >> 2, version)

    def pass_on(self, sdp: bytes, origin: Side, leg: str) -> bytes:
        """A description of a passive session: all as it came but o=. Raises UnusableSdp."""
        description = parse(sdp)
        line = next((line for line in description.session if line.startswith("o=")), "")
        description.session = [line for line in description.session if not line.startswith(("v=", "o="))]
        rest = description.to_bytes().decode("latin-1")
        return self.write(rest, line.rpartition(" ")[2] or "127.0.0.1", origin, leg)
