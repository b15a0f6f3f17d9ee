"""What is known of a fax: who, whose and how it ended. Values; JSON in the spool, columns in the database."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CRASHED: Final = -1
"""Completion code of a fax whose process ended without a word; T.30's own codes are 0 and above."""
STORAGE_FAILED: Final = -2
"""Completion code of a fax that was ended by us because a page could not be stored."""
TOO_LONG: Final = -3
"""Completion code of a fax that was ended by us because a page had no end."""
STALLED: Final = -4
"""Completion code of a fax that was ended by us because the far end made noise but no progress."""

OWN_TEXTS: Final = {
    CRASHED: "The fax process ended unexpectedly",
    STORAGE_FAILED: "A page could not be stored",
    TOO_LONG: "A page was longer than accepted",
    STALLED: "The far end did not speak the fax protocol any more",
}


class Outcome(enum.Enum):
    """How a fax ended: all of it, some of its pages, none. As in column `result` of table faxes."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FaxMeta:
    """What is known before the first tone. `started_at`: seconds since 1970. Numbers are E.164 with plus.

    `caller`: None where unknown. A withheld caller is kept for the record and never named to the customer.
    `called`: where a fax that we send goes (`number` is then ours); None: we receive.
    `sealed_password`: the PDF password, sealed by `config.secrets.SecretBox`; None: the PDF is not encrypted.
    """

    id: str
    account: str
    fax_box: str
    number: str
    email: str
    started_at: float
    caller: str | None = None
    caller_withheld: bool = False
    call_id: str | None = None
    language: str = "de"
    time_zone: str = "Europe/Berlin"
    sealed_password: str | None = None
    called: str | None = None


@dataclass(frozen=True, slots=True)
class PageQuality:
    """One page of the record (domain rule 4.30)."""

    rows: int
    bad_rows: int
    longest_bad_run: int
    bit_rate: int
    ecm: bool
    ecm_retries: int
    encoding: str
    transport: str


@dataclass(frozen=True, slots=True)
class FaxResult:
    """How it ended (domain rule 4.5). `rtp_events`, `rtn_events`: pages that we answered with RTP and RTN.

    `transport`: t38, g711 or t38-refused. `t38_packets`: good UDPTL packets that came; 0 after T.38 was agreed tells a
    carrier that negotiates T.38 and sends nothing.
    """

    code: int
    text: str
    pages: int
    ended_at: float
    transport: str = "g711"
    remote_ident: str = ""
    remote_model: str = ""
    bit_rate: int = 0
    ecm: bool = False
    ecm_retries: int = 0
    rtp_events: int = 0
    rtn_events: int = 0
    encoding: str = ""
    octets: int = 0
    t38_packets: int = 0
    lost_packets: int = 0
    sip_reason: str = ""
    page_quality: tuple[PageQuality, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Complete only with code 0 and a page: success without a page is a failure."""
        if not self.pages:
            return Outcome.FAILED
        return Outcome.COMPLETE if self.code == 0 else Outcome.PARTIAL

    @property
    def poor_quality(self) -> bool:
        """Whether lines of any page are bad or missing, whatever the code says.

        Packets lost on T.38 without ECM take whole lines with them, which T.30 does not notice.
        """
        if self.transport == "t38" and self.lost_packets and not all(page.ecm for page in self.page_quality):
            return True
        return any(page.bad_rows for page in self.page_quality)


def to_json(value: FaxMeta | FaxResult) -> bytes:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(value), ensure_ascii=False).encode()


def meta_from_json(data: bytes) -> FaxMeta:
    """What `to_json` made of a FaxMeta. Raises ValueError."""
    return FaxMeta(**_fields(FaxMeta, json.loads(data)))


def result_from_json(data: bytes) -> FaxResult:
    """What `to_json` made of a FaxResult. Raises ValueError."""
    return result_from(json.loads(data))


def result_from(fields: object) -> FaxResult:
    """A result from its decoded JSON. Raises ValueError."""
    values = _fields(FaxResult, fields)
    pages = values.pop("page_quality", [])
    if not isinstance(pages, list):
        raise ValueError("page_quality is not a list")
    return FaxResult(**values, page_quality=tuple(PageQuality(**_fields(PageQuality, page)) for page in pages))


def _fields(kind: type, fields: object) -> dict[str, Any]:
    """Known fields only, so that a spool of a newer version can be read after going back."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"not the JSON of a {kind.__name__}")
    known = {field.name for field in dataclasses.fields(kind)}
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := required - fields.keys():
        raise ValueError(f"the JSON of a {kind.__name__} lacks {', '.join(sorted(missing))}")
    return {name: value for name, value in fields.items() if name in known}
