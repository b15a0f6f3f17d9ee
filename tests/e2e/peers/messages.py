"""SIP messages as a peer saw them, for assertions: deliberately a parser of its own, not the edge's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """One message. `direction` is `in` (the peer received it) or `out` (the peer sent it)."""

    direction: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.split("\r\n", 1)[0].strip()

    @property
    def is_response(self) -> bool:
        return self.first_line.startswith("SIP/2.0 ")

    @property
    def status(self) -> int:
        """The status code, 0 for a request."""
        return int(self.first_line.split()[1]) if self.is_response else 0

    @property
    def method(self) -> str:
        """The method of a request, or the one a response answers (from CSeq)."""
        if not self.is_response:
            return self.first_line.split(" ", 1)[0]
        return self.header("CSeq").split()[-1]

    @property
    def request_uri(self) -> str:
        return self.first_line.split()[1]

    @property
    def body(self) -> str:
        return self.text.partition("\r\n\r\n")[2]

    def headers(self, name: str) -> list[str]:
        """All values of a header field, in order; names in their long form, any case."""
        wanted = {name.lower(), _COMPACT.get(name.lower(), name.lower())}
        found: list[str] = []
        for line in self.text.partition("\r\n\r\n")[0].split("\r\n")[1:]:
            if line[:1] in " \t" and found:
                continue
            key, _, value = line.partition(":")
            if key.strip().lower() in wanted:
                found.append(value.strip())
        return found

    def header(self, name: str) -> str:
        """The first value of a header field, or an empty string."""
        values = self.headers(name)
        return values[0] if values else ""

    def __str__(self) -> str:
        return f"{'->' if self.direction == 'out' else '<-'} {self.first_line}"


class Trace(list[Seen]):
    """The messages of one peer in the order they were seen."""

    def requests(self, method: str, direction: str | None = None) -> list[Seen]:
        return [m for m in self if not m.is_response and m.method == method and direction in (None, m.direction)]

    def responses(
        self, status: int | None = None, method: str | None = None, direction: str | None = None
    ) -> list[Seen]:
        return [
            m
            for m in self
            if m.is_response
            and status in (None, m.status)
            and method in (None, m.method)
            and direction in (None, m.direction)
        ]

    def one(self, method: str, direction: str | None = None) -> Seen:
        """The only request of this method; retransmissions count once. Fails when there is none, or several."""
        found = list({m.text: m for m in self.requests(method, direction)}.values())
        assert len(found) == 1, f"wanted one {method}, saw {len(found)} in:\n{self.ladder()}"
        return found[0]

    def ladder(self) -> str:
        return "\n".join(f"  {message}" for message in self)

    def received_text(self) -> str:
        """Everything the peer received, for searches of what must not be in it."""
        return "\n".join(m.text for m in self if m.direction == "in")


_COMPACT = {
    "via": "v", "from": "f", "to": "t", "call-id": "i", "contact": "m", "content-type": "c", "content-length": "l",
    "supported": "k", "subject": "s", "content-encoding": "e", "refer-to": "r", "referred-by": "b", "event": "o",
    "allow-events": "u", "session-expires": "x",
}  # fmt: skip
