"""Numbers: reading, writing, legal lengths (W5, E.164)."""

from __future__ import annotations

import pytest

from config.model import NumberFormat
from dialplan.number import UNKNOWN_COUNTRY, caller_number, calling_code, country_code, flaw, readings, to_wire


@pytest.mark.parametrize(
    ("e164", "fine"),
    [
        ("+49228386", True), ("+4922838", False), ("+49" + "2" * 12, True), ("+49" + "2" * 13, False),
        ("+442036427900", True), ("+44203642790", True), ("+4420364279001", False), ("+448001111", True),
        ("+2125550123", False), ("+212555012345", True), ("+55550123", False), ("+14155550123", True),
        ("+1415555012", False), ("+390612345678", True), ("+490228386", False), ("+44020364279", False),
        ("+88160012345", False), ("+881600123456", True), ("+80012345678", True), ("+1234567", False), ("+", False),
        ("+49x28386", False), ("+4922838\u0663", False), ("+" + "1" * 16, False),
    ],
)  # fmt: skip
def test_legal_numbers(e164: str, fine: bool) -> None:
    """8 to 15 digits, a known country, a length that country has, at most 12 national digits in Germany (T6.22)."""
    assert (flaw(e164) is None) is fine


def test_unknown_country_is_told_apart() -> None:
    """Unknown is 404, incomplete 484: the caller of flaw must be able to tell."""
    assert flaw("+99912345678") == UNKNOWN_COUNTRY
    assert country_code("+99912345678") is None
    assert country_code("+4930") == "49"
    assert country_code("+1") == "1"


def test_unknown_country_of_an_account() -> None:
    """A country without a calling code makes numbers that no country has, not an exception."""
    assert flaw(readings("030123456", "XX")[0]) == UNKNOWN_COUNTRY
    assert calling_code("GB") == "44"


@pytest.mark.parametrize(
    ("form", "home", "abroad", "bare"),
    [
        (NumberFormat.E164_PLUS, "+4930123456", "+442036427900", "112"),
        (NumberFormat.E164, "4930123456", "442036427900", "112"),
        (NumberFormat.NATIONAL, "030123456", "00442036427900", "112"),
        (NumberFormat.IDD, "004930123456", "00442036427900", "112"),
    ],
)
def test_writing(form: NumberFormat, home: str, abroad: str, bare: str) -> None:
    """Each format; bare codes are never touched."""
    assert [to_wire(n, form, "DE") for n in ("+4930123456", "+442036427900", "112")] == [home, abroad, bare]


def test_italy_keeps_its_zero() -> None:
    """Italian numbers hold the 0 behind the country code, reading and writing."""
    assert readings("0612345678", "IT") == ("+390612345678",)
    assert to_wire("+390612345678", NumberFormat.NATIONAL, "IT") == "0612345678"


@pytest.mark.parametrize("form", list(NumberFormat))
@pytest.mark.parametrize("e164", ["+4930123456", "+442036427900", "+390612345678", "+14155550123"])
@pytest.mark.parametrize("home", ["DE", "GB", "IT"])
def test_what_is_written_is_read_again(e164: str, form: NumberFormat, home: str) -> None:
    """Each written form reads back as one of its meanings."""
    assert e164 in readings(to_wire(e164, form, home), home)


def test_caller_numbers() -> None:
    """What is no number of legal length is none."""
    assert caller_number("201", "DE") is None
    assert caller_number("4930123456", "DE") == "+4930123456"
