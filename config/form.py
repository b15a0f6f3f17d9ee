"""The form of the provisioning document: which keys each section has, and the table and columns they are stored in.

What a value must look like beyond its type is the database's to say; this file knows no rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Value = str | int | bool | list[str] | list[int] | object | None
"""What a column holds: text, integer, boolean, lists of them, a time."""

UNCHANGED = "(unchanged)"
"""Stands for a stored secret in an exported document."""


class Kind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXTS = "list of texts"
    INTEGERS = "list of integers"
    NETWORKS = "list of addresses or networks"
    MOMENT = "time"
    ROUTE = "route"
    GROUP = "mapping"


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a section. `column` of a route is the beginning of its two columns; of a group, of its parts'."""

    key: str
    kind: Kind = Kind.TEXT
    default: Value = None
    required: bool = False
    column: str = ""
    parts: tuple[Field, ...] = ()
    refers: str = ""
    """The table that a value names a row of."""

    @property
    def stored_in(self) -> str:
        return self.column or self.key


@dataclass(frozen=True, slots=True)
class Secret:
    """A password: `password`, or `password_env`, or `password_file`. Absent, it stays as it is (`keep`), or goes."""

    key: str
    columns: tuple[str, ...]
    """Two: HA1 values of the row's username (MD5, SHA-256). One: sealed."""
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """One table and its place in the document."""

    table: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    secret: Secret | None = None
    within: str = ""
    """The table whose entries hold those of this one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the document states, without secrets."""
        found = ["block"] if self.within else []
        for field in self.fields:
            if field.kind is Kind.ROUTE:
                found += [f"{field.stored_in}_kind", f"{field.stored_in}_target"]
            elif field.kind is Kind.GROUP:
                found += [part.stored_in for part in field.parts]
            else:
                found.append(field.stored_in)
        return tuple(found)


def _text(key: str, default: str | None = None, *, required: bool = False, refers: str = "") -> Field:
    return Field(key, Kind.TEXT, default, required, refers=refers)


def _integer(key: str, default: int | None = None, *, required: bool = False) -> Field:
    return Field(key, Kind.INTEGER, default, required)


def _flag(key: str, default: bool) -> Field:
    return Field(key, Kind.BOOLEAN, default)


_LOCATION = Field("location", Kind.GROUP, parts=(_text("street"), _text("postcode"), _text("city")))
_ACCOUNT = _text("account", required=True, refers="accounts")
_NEXT_ROUTES = (
    Field("on_busy", Kind.ROUTE),
    Field("on_no_answer", Kind.ROUTE),
    _integer("no_answer_after", 25),
    Field("on_unreachable", Kind.ROUTE),
    Field("on_limit", Kind.ROUTE),
    Field("valid_from", Kind.MOMENT),
    _text("served_account", refers="accounts"),
)
_BUDGET = tuple(_integer(key) for key in ("calls_per_hour", "calls_per_day", "minutes_per_hour", "minutes_per_day"))
_HA1 = Secret("password", ("ha1_md5", "ha1_sha256"))

SECTIONS: tuple[Section, ...] = (
    Section(
        "carriers",
        ("name",),
        (
            _text("name", required=True),
            _text("mode", "register"),
            _text("domain", required=True),
            _text("outbound_proxy"),
            Field("secondary_proxies", Kind.TEXTS, []),
            _text("register_with", "first"),
            _text("transport", "udp"),
            _text("username"),
            _text("auth_username"),
            _flag("gin", False),
            _integer("expires", 600),
            Field("sources", Kind.NETWORKS, []),
            _text("identity", "pai-from"),
            _text("number_format", "e164-plus"),
            Field("ddi_source", Kind.TEXTS, ["p-called-party-id", "request-uri", "to"]),
            _text("home_country", "DE"),
            _flag("clip_no_screening", False),
            _flag("trusted", True),
            Field("codecs", Kind.TEXTS, ["pcma", "pcmu"]),
            _text("srtp", "off"),
            _text("t38", "offer"),
            _text("media_source", "learned"),
            _integer("session_expires", 1800),
            _integer("max_calls"),
            _integer("max_calls_in"),
            _integer("max_calls_out"),
            _integer("max_cps"),
            _integer("priority", 10),
            _integer("weight", 1),
            Field("failover_on", Kind.INTEGERS, [408, 480, 500, 502, 503, 504]),
        ),
        Secret("password", ("sealed_password",)),
    ),
    Section(
        "accounts",
        ("id",),
        (
            _text("id", required=True),
            _text("name", ""),
            _text("status", "active"),
            _text("country", "DE"),
            _text("time_zone", "Europe/Berlin"),
            _text("area_code"),
            _text("language", "de"),
            _text("email"),
            _integer("parallel_calls"),
            _text("bare_numbers", "e164"),
            _text("clip_fallback", "own"),
            Field("allowed_destinations", Kind.TEXTS),
            _text("emergency_number"),
            _flag("allow_zero_cli_prefixes", False),
            _text("suspension", "bar"),
            *_BUDGET,
            _integer("night_percent", 100),
            _integer("max_call_minutes"),
        ),
    ),
    Section(
        "trunks",
        ("account", "name"),
        (
            _text("name", required=True),
            _ACCOUNT,
            _text("mode", "register"),
            _text("username"),
            Field("sources", Kind.NETWORKS, []),
            _text("certificate"),
            _text("address"),
            _text("profile", "sipconnect-1.1"),
            _text("number_format", "e164-plus"),
            _text("called_in", "request-uri"),
            Field(
                "contact",
                Kind.GROUP,
                parts=(
                    Field("name", column="contact_name"),
                    Field("phone", column="contact_phone"),
                    Field("email", column="contact_email"),
                ),
            ),
            _integer("parallel_calls"),
            _integer("parallel_calls_in"),
            _integer("parallel_calls_out"),
            Field("valid_from", Kind.MOMENT),
            _text("ordered_by", "K"),
            _text("default_number"),
            _flag("clip_no_screening", False),
            _text("srtp", "off"),
            _text("t38", "offer"),
            _integer("max_contacts", 5),
            *_BUDGET,
        ),
        _HA1,
    ),
    Section(
        "external_numbers",
        ("account", "number"),
        (
            _text("number", required=True),
            _ACCOUNT,
            _text("status", "unverified"),
            _text("method"),
            Field("verified_at", Kind.MOMENT),
            Field("expires_at", Kind.MOMENT),
            _text("source", "portal"),
        ),
    ),
    Section(
        "seats",
        ("username",),
        (
            _text("username", required=True),
            _ACCOUNT,
            _text("trunk"),
            _text("name", ""),
            _text("email"),
            _text("mobile"),
            _text("extension"),
            _text("primary_number"),
            Field("external_numbers", Kind.TEXTS, []),
            _text("present", "primary"),
            _flag("reject_anonymous", False),
            _integer("max_contacts", 5),
            _text("srtp", "off"),
            *_BUDGET,
        ),
        _HA1,
    ),
    Section(
        "blocks",
        ("prefix",),
        (
            _text("prefix", required=True),
            _integer("digits", required=True),
            _ACCOUNT,
            _text("carrier", required=True, refers="carriers"),
            _text("type", "geographic"),
            _text("status", "active"),
            _integer("channels", 2),
            _text("served_account", refers="accounts"),
            _LOCATION,
        ),
    ),
    Section(
        "ranges",
        ("prefix",),
        (
            _text("prefix", required=True),
            _text("status"),
            _integer("channels"),
            Field("route", Kind.ROUTE),
            *_NEXT_ROUTES,
        ),
        within="blocks",
    ),
    Section(
        "numbers",
        ("number",),
        (
            _text("number", required=True),
            _ACCOUNT,
            _text("carrier", required=True, refers="carriers"),
            _text("type", "geographic"),
            _text("status", "active"),
            _integer("channels", 2),
            _text("cli_prefix"),
            Field("route", Kind.ROUTE),
            *_NEXT_ROUTES,
            _LOCATION,
        ),
    ),
    Section(
        "fax_boxes",
        ("account", "name"),
        (
            _text("name", required=True),
            _ACCOUNT,
            _text("email", required=True),
            _text("station_id"),
        ),
        Secret("pdf_password", ("sealed_pdf_password",), keep=False),
    ),
)
"""In the order in which they are written; the document has them in any order."""

BY_TABLE = {section.table: section for section in SECTIONS}
ROUTES = ("seat", "trunk", "fax", "forward", "extension", "reject")
