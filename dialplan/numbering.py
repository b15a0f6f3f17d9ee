"""Facts about numbers by country: emergency numbers, short codes, classes that may not be shown or cost dearly.

Tables only. Emergency sets: domain rule 2.6-24 and the national plans, never less than the `phonenumbers` metadata
has (a number too many costs nothing, one too few a life); a country that is not listed has 112.
"""

from __future__ import annotations

EMERGENCY: dict[str, frozenset[str]] = {
    country: frozenset(numbers.split())
    for country, numbers in {
        "AD": "110 112 116 118",
        "AT": "112 122 128 133 140 141 144",
        "BE": "100 101 112",
        "BG": "112 150 160 166",
        "CH": "112 117 118 143 144 145 147 1414",
        "CY": "112 199",
        "CZ": "112 150 151 152 153 154 155 156 157 158 159",
        "DE": "110 112",
        "DK": "112 114",
        "EE": "110 112",
        "ES": "061 062 080 085 088 091 092 112",
        "FI": "112",
        "FR": "15 17 18 112 114 115 119 191 196 197",
        "GB": "112 999 18000",
        "GG": "112 999",
        "GR": "100 108 112 166 199",
        "HR": "112 192 193 194",
        "HU": "104 105 107 112",
        "IE": "112 999",
        "IM": "112 999",
        "IS": "112",
        "IT": "112 113 115 118",
        "JE": "112 999",
        "LI": "112 117 118 144",
        "LT": "011 022 033 101 102 103 112",
        "LU": "112 113",
        "LV": "110 112 113",
        "MC": "15 17 18 112",
        "MT": "112",
        "NL": "112 911",
        "NO": "110 112 113",
        "PL": "112 997 998 999",
        "PT": "112 115",
        "RO": "112",
        "SE": "112 90000",
        "SI": "112 113",
        "SK": "112 150 155 158",
        "SM": "112 113 115 118",
        "US": "112 911",
        "CA": "112 911",
        "VA": "112 113 115 118",
    }.items()
}
ANY_EMERGENCY = frozenset({"112"})

NEVER_WITHHELD = frozenset({"116117", "124124"})
"""Beside emergency numbers: calls to these show their number whatever was asked (domain rule 2.6-18)."""

SHORT_CODES: dict[str, frozenset[str]] = {
    country: frozenset(numbers.split())
    for country, numbers in {
        "DE": "115 19222 124124",
        "GB": "100 101 105 111 119 123 150 151 154 155 159 195",
        "AT": "1450 147 142",
        "CH": "1811 1818",
        "FR": "113 118 3919 3020",
    }.items()
}
"""National numbers without an area code, matched exactly, beside the 116xxx and 118x... of all countries."""


def is_short_code(digits: str, country: str) -> bool:
    """A national short code: harmonised services of social value (116xxx), directory enquiry (118x...), or listed."""
    size = len(digits)
    if digits.startswith("116"):
        return size == 6
    if digits.startswith("118"):
        return size in (5, 6)
    return digits in SHORT_CODES.get(country, ())


NEVER_SHOWN = (
    "+49900", "+49137", "+49138", "+49118", "+49110", "+49112", "+49115",
    "+449", "+44118", "+448979", "+44999", "+44112",
    "+43900", "+43901", "+43930", "+43931", "+43939", "+43118",
    "+41900", "+41901", "+41906",
    "+3389",
)  # fmt: skip
"""Classes that may not be a caller's number: premium rate, mass traffic, directory enquiry, short codes, emergency
(domain rules 2.3-4, 2.4-10, 1.5-28)."""

PREMIUM = (
    "+49900", "+49137", "+49138", "+49118",
    "+449", "+4487", "+4470", "+44118",
    "+43900", "+43901", "+43930", "+43931", "+43939",
    "+41900", "+41901", "+41906",
    "+3389",
    "+1900", "+1242", "+1246", "+1264", "+1268", "+1284", "+1345", "+1441", "+1473", "+1649", "+1664", "+1758",
    "+1767", "+1784", "+1809", "+1829", "+1849", "+1868", "+1869", "+1876",
    "+870", "+878", "+881", "+882", "+883", "+979",
)  # fmt: skip
"""Dear or abused ranges, which a country's prefix alone does not open (domain rule 7-4f)."""

PREMIUM_CODES = ("118",)
"""Short codes that an account opens by name."""

CLI_COUNTRIES = frozenset((
    "43", "32", "359", "385", "357", "420", "45", "372", "358", "33", "49", "30", "36", "353", "39", "371", "370",
    "352", "356", "31", "48", "351", "40", "421", "386", "34", "46",  # EU
    "262", "590", "594", "596",  # outermost regions with a code of their own
    "354", "423", "47", "41",  # EFTA
    "376", "377", "378", "379",
))  # fmt: skip
"""Calling codes of EU countries with their outermost regions, EFTA, Andorra, Monaco, San Marino and the Vatican: a
number of theirs may be presented, but only on calls into its own country (domain rule 2.3-5)."""


def may_be_shown(e164: str) -> bool:
    """False for numbers that may never be presented as the caller's."""
    return not e164.startswith(NEVER_SHOWN)


def is_premium(e164: str) -> bool:
    """A range that must be opened on purpose."""
    return e164.startswith(PREMIUM)
