"""E.164 numbers: how they are written on the wire, read from it, and when their length is legal. Pure and cheap.

Numbers inside the dial plan are always E.164 with `+`. Country calling codes and legal lengths come from the
`phonenumbers` metadata, read once per country code.
"""

from __future__ import annotations

from functools import cache

import phonenumbers
from phonenumbers import PhoneMetadata

from config.model import NumberFormat

_REGIONS: dict[str, tuple[str, ...]] = {str(cc): r for cc, r in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()}
_MIN_DIGITS, _MAX_DIGITS = 8, 15
_MAX_NATIONAL = {"49": 12}
"""Longest national part where the operators' rule is narrower than the metadata (domain rule W5)."""
_KEEPS_ZERO = frozenset({"IT", "SM", "VA"})
"""Countries whose numbers keep the leading 0 behind the country code."""
_SEPARATORS = str.maketrans("", "", " -.()")


@cache
def calling_code(country: str) -> str:
    """The country calling code of an ISO 3166 country, without `+`: `DE` gives `49`.

    `0` where there is none: no country has it, so that numbers made with it are unknown and the call is refused.
    """
    return str(phonenumbers.country_code_for_region(country))


def country_code(e164: str) -> str | None:
    """The country calling code at the head of an E.164 number (`+4930...` gives `49`), None where there is none."""
    for end in (3, 2, 4):
        code = e164[1:end]
        if code in _REGIONS:
            return code
    return None


@cache
def _national_lengths(code: str) -> frozenset[int]:
    lengths: set[int] = set()
    for region in _REGIONS[code]:
        metadata = (
            PhoneMetadata.metadata_for_nongeo_region(int(code), None)
            if region == "001"
            else PhoneMetadata.metadata_for_region(region, None)
        )
        if metadata is not None and metadata.general_desc is not None:
            lengths.update(metadata.general_desc.possible_length)
    most = _MAX_NATIONAL.get(code, _MAX_DIGITS)
    return frozenset(n for n in lengths if n <= most)


@cache
def _dials_zero(code: str) -> bool:
    """Whether 0 is what calls inside the country begin with, so that no number itself does."""
    if _REGIONS[code][0] == "001":
        return False
    metadata = PhoneMetadata.metadata_for_region(_REGIONS[code][0], None)
    return metadata is not None and metadata.national_prefix == "0"


def flaw(e164: str) -> str | None:
    """What is wrong with the form of an E.164 number with `+`, in words; None for a number of legal length.

    `unknown country code` is told apart from lengths, because it means "no such number", not "more digits please".
    """
    digits = len(e164) - 1
    code = country_code(e164)
    if not e164[1:].isdigit() or not e164.isascii():
        return "holds characters that are not digits"
    if digits < _MIN_DIGITS:
        return f"has {digits} digits, at least {_MIN_DIGITS} are needed"
    if digits > _MAX_DIGITS:
        return f"has {digits} digits, at most {_MAX_DIGITS} are possible"
    if code is None:
        return UNKNOWN_COUNTRY
    if digits - len(code) not in _national_lengths(code):
        return f"has {digits - len(code)} digits after +{code}, which no number there has"
    if e164[len(code) + 1] == "0" and _dials_zero(code):
        return f"has a 0 after +{code}, which is dialled inside the country only"
    return None


UNKNOWN_COUNTRY = "unknown country code"


def clean(user: str, is_phone: bool = False) -> str:
    """A user part as dialled: parameters cut (RFC 3261 section 19.1.6), visual separators cut for phone URIs."""
    if ";" in user:
        user = user.partition(";")[0]
    return user.translate(_SEPARATORS) if is_phone else user


def national(digits: str, country: str) -> str:
    """E.164 of a number dialled nationally in `country` (leading 0 included)."""
    code = calling_code(country)
    return f"+{code}{digits}" if country in _KEEPS_ZERO else f"+{code}{digits[1:]}"


def readings(user: str, country: str) -> tuple[str, ...]:
    """Every E.164 number that `user` from the wire may mean, likeliest first; empty if it is no number.

    `+CC`, `00CC` and `0...` mean one thing each; bare digits may have the country code or lack it (domain rule 1.6-34).
    """
    if not user:
        return ()
    if user[0] == "+":
        return (user,) if user[1:].isdigit() and user.isascii() else ()
    if not (user.isdigit() and user.isascii()):
        return ()
    if user.startswith("00"):
        return ("+" + user[2:],)
    if user[0] == "0":
        return (national(user, country),)
    return ("+" + user, f"+{calling_code(country)}{user}")


def caller_number(user: str, country: str) -> str | None:
    """The E.164 number that a caller's header names, None where it names none (an extension, an account, a name)."""
    for e164 in readings(user, country):
        if flaw(e164) is None:
            return e164
    return None


def to_wire(e164: str, form: NumberFormat, country: str) -> str:
    """`e164` as a carrier whose home is `country` wants it; anything without `+` (112, 115) leaves as it is."""
    if not e164.startswith("+") or form is NumberFormat.E164_PLUS:
        return e164
    if form is NumberFormat.E164:
        return e164[1:]
    if form is NumberFormat.NATIONAL:
        home = "+" + calling_code(country)
        if e164.startswith(home):
            return e164[len(home) :] if country in _KEEPS_ZERO else "0" + e164[len(home) :]
    return "00" + e164[1:]
