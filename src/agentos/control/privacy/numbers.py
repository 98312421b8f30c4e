"""Numbers in a text: cards, national ids, bank accounts, phones. What a number is follows from its shape, its checksum
and the label before it.

A *shape* is how its digits are grouped. A shape that things share with people (eleven digits in a row) counts without a
label only where its checksum lets one random number in a hundred pass or fewer; the rates were measured with 4,000
random numbers per checksum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumber
from stdnum import iban, luhn
from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.bg import egn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.ec import ci
from stdnum.ee import ik
from stdnum.es import ccc, dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.gr import amka
from stdnum.hr import oib
from stdnum.ie import pps
from stdnum.il import idnr as il_idnr
from stdnum.in_ import aadhaar
from stdnum.iso7064 import mod_11_2
from stdnum.it import codicefiscale
from stdnum.jp import in_ as my_number
from stdnum.kr import rrn
from stdnum.lt import asmens
from stdnum.mx import curp
from stdnum.my import nric
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import cc as pt_cc
from stdnum.pt import nif as pt_nif
from stdnum.ro import cnp
from stdnum.ru import inn
from stdnum.se import personnummer
from stdnum.si import emso
from stdnum.th import pin
from stdnum.tr import tckimlik
from stdnum.ua import rntrc
from stdnum.us import itin
from stdnum.us import ssn as us_ssn
from stdnum.za import idnr as za_idnr

from agentos.control.privacy.labels import Announced, Label, Labels
from agentos.control.privacy.model import Finding, Kind

LEAST_DIGITS: Final = 7
MOST_DIGITS: Final = 20
MOST_WORDS: Final = 9  # parts with a space between that one number is made of
MOST_WRITTEN: Final = 40  # characters of a number with what stands between its digits
MOST_PHONE_DIGITS: Final = 15  # E.164

# A run of digits with what people put between them. Nothing in it gives back what it took, so it is read once.
_RUN: Final = re.compile(r"(?<![A-Za-z0-9_])[+(]{0,2}[0-9](?:[ .\-/()\u00a0\u2011]{0,3}+[0-9]){6,}+")
_DATED: Final = re.compile(r"(?<![0-9])[0-9]{1,4}([./-])[0-9]{1,2}\1[0-9]{1,4}(?![0-9])")  # a day among others
_DIGITS: Final = re.compile("[0-9]+")
_WORD: Final = re.compile(r"[^ \u00a0]+")
_EXTENSION: Final = re.compile(r"(?: ?x| ?ext\.? ?)[0-9]{1,6}(?![A-Za-z0-9])")
_ISSUER: Final = re.compile(r"4|5[0-8]|6[0-9]|2(?:2[2-9]|[3-6]|7[01]|720)|3[4-9]|30[0-5]|1800|2131")
_DATES: Final = {(4, 2, 2), (2, 2, 4), (1, 2, 4), (2, 1, 4), (1, 1, 4)}

# Labels of numbers that are no phone's.
_OTHER_NUMBERS: Final = {Label.NATIONAL_ID, Label.CARD, Label.BANK_ACCOUNT, Label.USER_ID, Label.LOCATION}
_NOTHING: Final = Announced(Label.OTHER, False)  # where no label stands; told apart by being this very object

Check = Callable[[str], bool]
Shape = tuple[tuple[int, ...], str]  # lengths of the groups; what separates them: one character, or several


def _valid(module: object) -> Check:
    check: Check = module.is_valid  # type: ignore[attr-defined]

    def guarded(number: str) -> bool:
        try:
            return check(number)
        except (LookupError, ValueError):  # some of the library's checks stumble over numbers that are none
            return False

    return guarded


def _always(_number: str) -> bool:
    return True


def _dated(number: str) -> bool:
    """Whether it begins with a day: YYMMDD or DDMMYY. All that is left of the check where newer numbers have none."""
    first, middle, last = int(number[:2]), int(number[2:4]), int(number[4:6])
    return 1 <= middle <= 12 and (1 <= first <= 31 or 1 <= last <= 31)


def _resident(number: str) -> bool:
    """China: a day and a checksum. The library's own check knows only the counties of today."""
    return number[6:8] in ("19", "20") and _dated(number[8:14]) and bool(mod_11_2.is_valid(number))


# Shapes that only people's numbers have, or whose checksum is strong: they need no label.
_PLAIN: Final[dict[Shape, tuple[Check, ...]]] = {
    ((3, 2, 4), "-"): (_valid(us_ssn), _valid(itin)),
    ((3, 3, 3), "-"): (_valid(sin),),
    ((3, 3, 3, 2), "..-"): (_valid(cpf),),
    ((4, 4, 4), " "): (_valid(aadhaar),),
    ((1, 2, 2, 2, 3, 3, 2), " "): (_valid(nir),),
    ((1, 2, 2, 2, 3, 3), " "): (_always,),
    ((15,), ""): (_valid(nir),),
    ((13, 2), " "): (_valid(nir),),
    ((11,), ""): tuple(map(_valid, (idnr, nn, fodselsnummer, ik, amka))),
    ((2, 3, 3, 3), " "): (_valid(idnr),),
    ((2, 2, 2, 3, 2), "..-."): (_valid(nn),),
    ((6, 3, 2), "-."): (_valid(nn),),
    ((6, 5), " "): (_valid(fodselsnummer),),
    ((6, 5), "-"): (_dated,),  # Latvia; the library knows no checksum of it
    ((6, 4), "-"): (_valid(personnummer), _valid(cpr)),
    ((8, 4), "-"): (_valid(personnummer),),
    ((12,), ""): (_valid(personnummer),),
    ((6, 4), "/"): (_valid(rc),),
    ((6, 3), "/"): (_valid(rc),),
    ((6, 7), "-"): (_dated,),  # Korea: no checksum since October 2020
    ((13,), ""): (_valid(rrn), _valid(za_idnr), _valid(cnp), _valid(emso)),
    ((18,), ""): (_resident,),
    ((3, 4, 4, 2), "."): (_valid(ahv),),
    ((1, 4, 5, 2, 1), "-"): (_valid(pin),),
    ((6, 2, 4), "-"): (_valid(nric),),
    ((4, 6), " "): (_valid(vnr),),
}
# The same digits without such a shape: a label must say what they are.
_LABELLED: Final[dict[int, tuple[Check, ...]]] = {
    8: (_valid(bsn), _valid(rut), _valid(il_idnr), _valid(tfn)),
    9: tuple(map(_valid, (us_ssn, itin, sin, bsn, rut, il_idnr, tfn, rc, pt_nif))),
    10: tuple(map(_valid, (nhs, cpr, personnummer, egn, rc, vnr, rntrc, ci, inn))),
    11: tuple(map(_valid, (idnr, nn, fodselsnummer, ik, amka, pesel, cpf, tckimlik, asmens, oib))),
    12: tuple(map(_valid, (personnummer, aadhaar, my_number, nric, inn))),
    13: tuple(map(_valid, (rrn, za_idnr, cnp, emso, pin, nir, ahv))),
    15: (_valid(nir),),
    18: (_resident,),
}
_SAID_SSN: Final = {((3, 2, 4), "-"), ((3, 2, 4), " ")}  # with a label they are one whatever their first digits

_CARD_SHAPES: Final = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 3), (4, 4, 4)}
_ACCOUNT_SHAPES: Final = {((4, 4, 2, 10), "-"), ((4, 4, 2, 10), " ")}

# Numbers with letters; each stands alone between other characters than letters and digits.
_LETTERED: Final[tuple[tuple[re.Pattern[str], Check, bool], ...]] = tuple(
    (re.compile(rf"(?<![A-Za-z0-9_./-]){pattern}(?![A-Za-z0-9_])"), check, labelled)
    for pattern, check, labelled in (
        (
            r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
            _valid(codicefiscale),
            False,
        ),
        (r"[0-9]{8}-?[A-Z]", _valid(dni), False),
        (r"[XYZ]-?[0-9]{7}-?[A-Z]", _valid(nie), False),
        (r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]", _valid(hetu), False),
        (r"[A-Z]{4}[0-9]{6}[A-Z]{6}[0-9A-Z][0-9]", _valid(curp), False),
        (r"[0-9]{17}X", _resident, False),
        (r"[12] ?[0-9]{2} ?[0-9]{2} ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", _valid(nir), False),
        (r"[0-9]{8} ?[0-9] ?[A-Z]{2}[0-9]", _valid(pt_cc), False),
        (r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9Kk]", _valid(rut), False),
        (r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]", _always, False),
        (r"[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Z]", _always, True),
        (r"[0-9]{7,8}-[0-9Kk]", _valid(rut), True),
        (r"[0-9]{7}[A-W][A-IW]?", _valid(pps), True),
        (r"[A-Z]{1,5}[0-9]{4,9}[A-Z]?", _always, True),  # passports and what else a label calls an id
    )
)
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9_])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){10,31}")
# How every one of them begins.
_LETTERED_BEGINS: Final = re.compile(
    r"(?<![A-Za-z0-9_./-])(?=[A-Z]{1,6}[ -]?[0-9]{2}|[0-9]{6,9}[- +]?[0-9A-Z]|[0-9]{17}X|[12](?: ?[0-9]{2}){2} ?2[AB]"
    r"|[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-)"
)


def numbers(text: str, regions: tuple[str, ...], told: Label | None = None) -> Iterator[Finding]:
    """Every number of a person in a text. ``told``: what the name of the field that holds the text announces."""
    labels = Labels(text, told)
    for run in _RUN.finditer(text):
        yield from _in_run(text, run.start(), run.end(), regions, labels)
    yield from _with_letters(text, labels)


def _with_letters(text: str, labels: Labels) -> Iterator[Finding]:
    for found in _IBAN.finditer(text):
        length = _iban_length(found.group())
        end = found.start() + length
        if length and not text[end : end + 1].isalnum():
            yield Finding(found.start(), end, Kind.BANK_ACCOUNT)
    for begin in _LETTERED_BEGINS.finditer(text):
        for pattern, check, labelled in _LETTERED:
            matched = pattern.match(text, begin.start())
            if matched is None or not check(matched.group()):
                continue
            said = labels.before(matched.start())
            label = said.label if said is not None else None
            if label is Label.NATIONAL_ID or (not labelled and label is not Label.OTHER):
                yield Finding(matched.start(), matched.end(), Kind.NATIONAL_ID)
                break


def _iban_length(candidate: str) -> int:
    """How many of the candidate's characters are an IBAN; 0: it is none."""
    plain = 0
    for place, one in enumerate(candidate, 1):
        if one not in " -":
            plain += 1
            if plain >= 15 and iban.is_valid(candidate[:place], check_country=False):
                return place
    return 0


def _in_run(text: str, start: int, end: int, regions: tuple[str, ...], labels: Labels) -> Iterator[Finding]:
    words = [(start + one.start(), start + one.end()) for one in _WORD.finditer(text[start:end])]
    extension = _EXTENSION.match(text, end)
    if extension is None and text[end : end + 1].isalnum() and text[end : end + 1].isascii():
        words.pop()  # its last digits belong to a word, as in '10ms'
    if words and start >= 2 and text[start - 1] in "-./" and text[start - 2].isalnum() and text[start - 2].isascii():
        said = labels.before(start)
        if said is None or said.label is Label.OTHER:
            words.pop(0)  # its first digits belong to a word, as in 'INV-2026001'
    place = 0
    while place < len(words):
        taken = 1
        said = None
        first_at = words[place][0]
        for last in range(min(len(words), place + MOST_WORDS), place, -1):
            last_at = words[last - 1][1]
            number = _number(text[first_at:last_at])
            if number is None:
                continue
            said = said or labels.before(first_at) or _NOTHING
            kind = _kind(number, said, regions)
            if kind is not None:
                if extension is not None and last == len(words) and kind is Kind.PHONE:
                    last_at = extension.end()
                yield Finding(first_at, last_at, kind)
                taken = last - place
                break
        place += taken


@dataclass(frozen=True, slots=True)
class _Number:
    """Digits as they are grouped in a text."""

    written: str
    digits: str
    lengths: tuple[int, ...]
    between: str  # all that separates the groups
    shape: Shape


def _number(written: str) -> _Number | None:
    """The number that a piece of a text is; None where it has too few digits, too many, or one only."""
    if len(written) > MOST_WRITTEN:
        return None
    groups = _DIGITS.findall(written)
    digits = "".join(groups)
    if not LEAST_DIGITS <= len(digits) <= MOST_DIGITS or len(set(digits)) == 1:
        return None
    lengths = tuple(map(len, groups))
    separators = _DIGITS.split(written)[1:-1]
    between = "".join(separators)
    return _Number(
        written, digits, lengths, between, (lengths, separators[0] if len(set(separators)) == 1 else between)
    )


def _kind(number: _Number, said: Announced, regions: tuple[str, ...]) -> Kind | None:
    """What a number is, if it is of a person."""
    label = said.label if said is not _NOTHING else None
    if label is not Label.OTHER and _is_card(number, label):
        return Kind.CARD
    if _is_national(number, label) or (label is Label.NATIONAL_ID and said.field):
        return Kind.NATIONAL_ID
    if _is_account(number, label):
        return Kind.BANK_ACCOUNT
    if label is not Label.OTHER and _is_phone(number, regions, label):
        return Kind.PHONE
    return None


def _is_card(number: _Number, label: Label | None) -> bool:
    count, (lengths, separator) = len(number.digits), number.shape
    if not 12 <= count <= 19 or (len(lengths) > 1 and (lengths not in _CARD_SHAPES or separator not in " -")):
        return False
    if count < 14 and label is not Label.CARD:  # as many digits as an EAN or a time in milliseconds has
        return False
    return _ISSUER.match(number.digits) is not None and luhn.is_valid(number.digits)


def _is_national(number: _Number, label: Label | None) -> bool:
    checks = _PLAIN.get(number.shape, ())
    if label is not Label.OTHER and any(check(number.digits) for check in checks):
        return True
    if label is not Label.NATIONAL_ID:
        return False
    return number.shape in _SAID_SSN or any(check(number.digits) for check in _LABELLED.get(len(number.digits), ()))


def _is_account(number: _Number, label: Label | None) -> bool:
    if number.shape in _ACCOUNT_SHAPES:
        return ccc.is_valid(number.digits)
    return label is Label.BANK_ACCOUNT


def _is_phone(number: _Number, regions: tuple[str, ...], label: Label | None) -> bool:
    written, digits, lengths, between = number.written, number.digits, number.lengths, number.between
    if label in _OTHER_NUMBERS or len(digits) > MOST_PHONE_DIGITS:
        return False
    if lengths in _DATES or any(one in written for one in ("..", "--", "//")):
        return False
    if written.startswith(("+", "(+", "00")):
        return _is_international(written, digits, label is Label.PHONE or len(lengths) > 1)
    if label is Label.PHONE:
        return True
    if len(lengths) == 1 or len(digits) > 12 or min(lengths[1:]) < 2 or _DATED.search(written) is not None:
        return False
    if "." in between and (len(lengths) < 3 or max(lengths) > 4):
        return False
    if not (written[0] in "0(" or lengths == (3, 3, 4)):
        return False
    return any(_is_national_phone(digits, region) for region in regions)


def _is_international(written: str, digits: str, likely: bool) -> bool:
    number = _parsed("+" + digits.removeprefix("00"), "")
    if number is None:
        return False
    if phonenumbers.is_valid_number(number):
        return True
    possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    return possible and (likely or not written.startswith("00"))


def _is_national_phone(digits: str, region: str) -> bool:
    form = _general_form(region)
    if form is None or not (form.fullmatch(digits) or form.fullmatch(digits[1:])):  # with or without a trunk prefix
        return False
    number = _parsed(digits, region)
    return number is not None and phonenumbers.is_valid_number(number)


@cache
def _general_form(region: str) -> re.Pattern[str] | None:
    """The form that every number of a region has: far quicker to try than to parse one."""
    known = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    general = None if known is None else known.general_desc
    if general is None or general.national_number_pattern is None:
        return None
    return re.compile(general.national_number_pattern)


def _parsed(written: str, region: str) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region or None)
    except phonenumbers.NumberParseException:
        return None
