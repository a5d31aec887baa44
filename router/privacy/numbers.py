"""Finds e-mail addresses, payment cards, and numbers that identify a person or an account.

A number counts when its check digits are right (python-stdnum). Numbers whose check lets one in ten or more random ones
through count only in the written form that nothing else has, with its dashes or dots. Only what is near digits is read:
prose has few, and eleven patterns over a whole prompt would take 1 ms a kB.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.pl import pesel
from stdnum.us import ssn

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w-])")
CARD = re.compile(r"(?<![\d.,])(?:\d[ -]?){12,18}\d(?![\d]|[.,]\d)")
DOTTED_CARD = re.compile(r"(?<![\d.,])(?:\d{4}(?:\.\d{4}){3}|\d{4}\.\d{6}\.\d{4,5})(?![\d]|[.,]\d)")
CARD_STARTS = re.compile(r"3[0-9]|4|5[0-9]|6[0-9]|2[2-7]|81|9792")
"""Of the networks: American Express, Diners and JCB, Visa, Mastercard and Maestro, Discover and UnionPay, Mastercard's
newer range, UnionPay's newer range, Troy."""

DIGITS = re.compile(r"\d[\dA-Z .-]{6,}")
BEFORE_CHARS = 8
"""Of what stands before the first digit so much is read: an Italian tax code has six letters there."""

FEWEST_DIGITS = 7
"""Of all that is looked for: so many has a Spanish foreigner's number, and an Italian tax code."""

IsValid = Callable[[str], bool]

_IDS: tuple[tuple[re.Pattern[str], IsValid], ...] = (
    (re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"), iban.is_valid),
    (re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), ssn.is_valid),
    (re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)"), cpf.is_valid),
    (re.compile(r"(?<!\w)\d{8}-?[A-Z](?!\w)"), dni.is_valid),
    (re.compile(r"(?<!\w)[XYZ]-?\d{7}-?[A-Z](?!\w)"), nie.is_valid),
    (re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)"), codicefiscale.is_valid),
    (re.compile(r"(?<!\d)[12] ?\d{2} ?[0-9]{2} ?[0-9AB]{2} ?\d{3} ?\d{3} ?\d{2}(?!\d)"), nir.is_valid),
    (re.compile(r"(?<!\d)[2-9]\d{3}[ -]\d{4}[ -]\d{4}(?!\d)"), aadhaar.is_valid),
    (re.compile(r"(?<!\d)[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?!\d)"), idnr.is_valid),
    (re.compile(r"(?<![\d-])\d{3}[ -]\d{3}[ -]\d{4}(?![\d-])"), nhs.is_valid),
    (re.compile(r"(?<!\d)\d{11}(?!\d)"), pesel.is_valid),
)


def holds_email(text: str, allowed: Sequence[str] = ()) -> bool:
    """An e-mail address is in `text` that none of the patterns `allowed` (`*@example.com`) matches."""
    found = (match.group().lower() for match in EMAIL.finditer(text)) if "@" in text else ()
    return any(not any(fnmatchcase(address, pattern) for pattern in allowed) for address in found)


def holds_card(text: str) -> bool:
    """The number of a payment card is in `text`: 13 to 19 digits of a known network whose Luhn sum is right."""
    return any(
        _is_card(found.group())
        for part in _near_digits(text)
        for pattern in (CARD, DOTTED_CARD)
        for found in pattern.finditer(part)
    )


def holds_id(text: str) -> bool:
    """The number of a bank account, or one that a state gave a person, is in `text`."""
    return any(
        is_valid(found.group())
        for part in _near_digits(text)
        for pattern, is_valid in _IDS
        for found in pattern.finditer(part)
    )


def _near_digits(text: str) -> Iterator[str]:
    """The parts of `text` that could hold a number, with what stands round them."""
    for run in DIGITS.finditer(text):
        if sum(map(str.isdigit, run.group())) >= FEWEST_DIGITS:
            yield text[max(0, run.start() - BEFORE_CHARS) : run.end() + 1]


def _is_card(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    has_two_digits = len(set(digits)) > 1
    return has_two_digits and CARD_STARTS.match(digits) is not None and luhn.is_valid(digits)
