"""What the words before a number or a value say it is: 'SSN:', "phone_number": …, Personnummer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

LOOK_BACK: Final = 56  # characters before a value in which a label is looked for
MOST_LINE: Final = 2000  # characters of a line in which columns are counted
LONGEST_GAP: Final = 26  # characters between a label and its value, none of them a digit


class Label(Enum):
    """What a label announces."""

    NATIONAL_ID = 1
    CARD = 2
    BANK_ACCOUNT = 3
    PHONE = 4
    USER_ID = 5
    LOCATION = 6
    OTHER = 7  # a number that identifies a thing: an order, a book, a parcel, a version


BLANK: Final = "\ufffc"  # stands for each character of a marker while a text is looked through


@dataclass(frozen=True, slots=True)
class Announced:
    """What a label announces, and whether the value stands where the label's own value stands, with nothing between."""

    label: Label
    field: bool


_WORDS: Final = {
    Label.NATIONAL_ID: (
        r"ssn|social security|sozialversicherung\w*|s[ée]curit[ée] sociale|seguridad social"
        r"|national (?:id|insurance)\w*|nino|tax(?:payer)? (?:id|number)\w*|tin|itin|steuer ?id\w*"
        r"|steueridentifikationsnummer|id ?nr|pesel|cpf"
        r"|bsn|burgerservicenummer|sofinummer|rijksregister\w*|registre national|nir|num[ée]ro fiscal"
        r"|codice fiscale|dni"
        r"|nie|nif|rut|curp|rfc|personnummer|personal (?:id|identity|identification|code|number)\w*"
        r"|f[øo]dselsnummer|cpr"
        r"|hetu|henkil[öo]tunnus|rodn[ée] [čc][íi]slo|cnp|egn|егн|oib|amka|αμκα|t\.?c\.? ?kimlik\w*|kimlik no|aadhaar"
        r"|sin|social insurance|nhs|ahv|avs|svnr|isikukood|asmens kodas|emšo|emso|inn|инн|снилс|snils|рнокпп"
        r"|identity (?:number|card|no)|id (?:number|card|no)|identification number|passport\w*|driver s? ?licen[cs]e"
        r"|national identity|nric|pps ?n?\w*|teudat zehut|תעודת זהות|身份证\w*|주민등록번호|マイナンバー"
        r"|my ?number|fiscal code"
    ),
    Label.CARD: (
        r"card|cards|credit card|debit card|cc|pan|visa|mastercard|amex|maestro|kreditkarte\w*|kartennummer"
        r"|carte(?: bancaire)?|tarjeta|carta di credito|cart[ãa]o|kort\w*|karta|card (?:number|no|num)"
    ),
    Label.BANK_ACCOUNT: (
        r"iban|bban|(?:bank )?account(?: (?:number|no|num|nr))?|acct(?: (?:number|no|num))?|konto\w*|kontonummer|compte"
        r"|cuenta|conto(?: corrente)?|rekening\w*|rachun\w*|conta|aba|routing(?: (?:number|no))?|clabe|sort code"
        r"|clearing"
    ),
    Label.PHONE: (
        r"tel|telephone|phone|phones|mobile|cell|cellphone|fax|call|callback|dial|whatsapp|sms|msisdn|telefon\w*|t[ée]l"
        r"|t[ée]l[ée]phone|tel[ée]fono|telefone|handy|mobil|mobiltelefon|portable|m[óo]vil|celular|tlf|puh|puhelin"
        r"|gsm|ring|rufnummer|telefoon|cellulare|номер телефона|телефон|電話|电话|전화"
    ),
    Label.USER_ID: (
        r"user ?(?:id|name)|uid|login|customer ?(?:id|no|number)|member ?(?:id|no|number)|account ?id|patient ?id"
    ),
    Label.LOCATION: r"lat|lon|lng|latitude|longitude",
    Label.OTHER: (
        r"order|orders|invoice|tracking|parcel|shipment|ticket|case|isbn|issn|ean|upc|gtin|sku|serial|lot|batch|version"
        r"|build|release|commit|revision|timestamp|ts|epoch|time|took|duration|size|bytes|length|total|amount|price|port"
        r"|pid|offset|line|row|seq|sequence|request|trace|span|checksum|hash|sha|crc|bestell\w*|rechnung\w*|facture"
        r"|commande|pedido|factura|imei|mac|barcode|article|part|model|product|po|pn|sn|ref|reference|transaction|txn"
    ),
}
_LABELS: Final = tuple(Label)
_LABEL: Final = re.compile(
    "(?<![a-z])(?:" + "|".join(f"({_WORDS[one]})" for one in _LABELS) + r")(?![a-z])", re.IGNORECASE
)
_ENDS: Final = frozenset(
    "0123456789\n\r" + BLANK
)  # what a label and its gap do not hold: what stands before says nothing
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAME: Final = re.compile(r"[\"' ]{0,2}[^\W\d][\w .#/-]{0,40}[\"' \r]{0,3}")  # of a column
# Between the name of a field and its value: 'ssn=', '"ssn": "', 'my ssn is '.
_FIELD: Final = re.compile(r"[\"'\]) ]{0,4}(?:[:=>]{1,2}|(?: (?:is|ist|est|es))(?= ))?[ \t\"'(\[]{0,6}", re.IGNORECASE)


def label_of(words: str) -> Label | None:
    """What a field's name, as ``customerSsn`` or ``phone_number``, announces."""
    found = None
    for match in _LABEL.finditer(_spaced(words[:LOOK_BACK])):
        found = _LABELS[(match.lastindex or 1) - 1]
        if found is not Label.OTHER:
            return found
    return found


class Labels:
    """What stands closest before the places of one text says of them: a label on the line, else the column's name.

    A table is a text whose first line names its columns, as CSV has them. ``told``: what the name of the field that
    holds the whole text announces, which comes before both.
    """

    def __init__(self, text: str, told: Label | None) -> None:
        self._text = text
        self._told = None if told is None else Announced(told, True)
        self._columns: tuple[str, list[Label | None]] | None = None
        self._read = False

    def before(self, start: int) -> Announced | None:
        """What is announced for a value that begins here."""
        if self._told is not None:
            return self._told
        begin, lowest = start, max(0, start - LOOK_BACK)
        while begin > lowest and self._text[begin - 1] not in _ENDS:
            begin -= 1
        before = _spaced(self._text[begin:start])
        last = None
        for match in _LABEL.finditer(before) if any(map(str.isalpha, before)) else ():
            last = match
        if last is None or len(before) - last.end() > LONGEST_GAP:
            return self._of_column(start)
        return Announced(_LABELS[(last.lastindex or 1) - 1], _FIELD.fullmatch(before, last.end()) is not None)

    def _of_column(self, start: int) -> Announced | None:
        if not self._read:
            self._read = True
            named = column_names(self._text)
            if named is not None:
                self._columns = named[0], [label_of(name) for name in named[1]]
        if self._columns is None:
            return None
        separator, labels = self._columns
        begin = self._text.rfind("\n", max(0, start - MOST_LINE), start)
        place = self._text.count(separator, begin, start)
        label = labels[place] if begin >= 0 and place < len(labels) else None
        return None if label is None else Announced(label, True)


def column_names(text: str) -> tuple[str, list[str]] | None:
    """What separates the columns of a table, and their names; None where the text is no table."""
    end = text.find("\n", 0, MOST_LINE)
    if end <= 0:
        return None
    first = text[:end]
    second = text[end + 1 : end + 1 + MOST_LINE].partition("\n")[0]
    for separator in ",;\t|":
        names = first.split(separator)
        if len(names) > 1 and second.count(separator) == len(names) - 1 and all(map(_NAME.fullmatch, names)):
            return separator, names
    return None


def _spaced(words: str) -> str:
    return _CAMEL.sub(" ", words).replace("_", " ").replace("-", " ")
