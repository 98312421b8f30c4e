"""What the words before a number or a value say it is: 'SSN:', "phone_number": …, Personnummer."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

LOOK_BACK: Final = 56  # characters before a value in which a label is looked for
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


_WORDS: Final = {
    Label.NATIONAL_ID: (
        r"ssn|social security|sozialversicherung\w*|s[ée]curit[ée] sociale|seguridad social|national (?:id|insurance)\w*"
        r"|nino|tax(?:payer)? (?:id|number)\w*|tin|itin|steuer ?id\w*|steueridentifikationsnummer|id ?nr|pesel|cpf|bsn"
        r"|burgerservicenummer|sofinummer|rijksregister\w*|registre national|nir|num[ée]ro fiscal|codice fiscale|dni|nie"
        r"|nif|rut|curp|rfc|personnummer|personal (?:id|identity|identification|code|number)\w*|f[øo]dselsnummer|cpr"
        r"|hetu|henkil[öo]tunnus|rodn[ée] [čc][íi]slo|cnp|egn|егн|oib|amka|αμκα|t\.?c\.? ?kimlik\w*|kimlik no|aadhaar"
        r"|sin|social insurance|nhs|ahv|avs|svnr|isikukood|asmens kodas|emšo|emso|inn|инн|снилс|snils|рнокпп"
        r"|identity (?:number|card|no)|id (?:number|card|no)|identification number|passport\w*|driver s? ?licen[cs]e"
        r"|national identity|nric|pps ?n?\w*|teudat zehut|תעודת זהות|身份证\w*|주민등록번호|マイナンバー|my ?number|fiscal code"
    ),
    Label.CARD: (
        r"card|cards|credit card|debit card|cc|pan|visa|mastercard|amex|maestro|kreditkarte\w*|kartennummer"
        r"|carte(?: bancaire)?|tarjeta|carta di credito|cart[ãa]o|kort\w*|karta|card (?:number|no|num)"
    ),
    Label.BANK_ACCOUNT: (
        r"iban|bban|(?:bank )?account(?: (?:number|no|num|nr))?|acct(?: (?:number|no|num))?|konto\w*|kontonummer|compte"
        r"|cuenta|conto(?: corrente)?|rekening\w*|rachun\w*|conta|aba|routing(?: (?:number|no))?|clabe|sort code|clearing"
    ),
    Label.PHONE: (
        r"tel|telephone|phone|phones|mobile|cell|cellphone|fax|call|callback|dial|whatsapp|sms|msisdn|telefon\w*|t[ée]l"
        r"|t[ée]l[ée]phone|tel[ée]fono|telefone|handy|mobil|mobiltelefon|portable|m[óo]vil|celular|tlf|puh|puhelin"
        r"|gsm|ring|rufnummer|telefoon|cellulare|номер телефона|телефон|電話|电话|전화"
    ),
    Label.USER_ID: r"user ?(?:id|name)|uid|login|customer ?(?:id|no|number)|member ?(?:id|no|number)|account ?id|patient ?id",
    Label.LOCATION: r"lat|lon|lng|latitude|longitude",
    Label.OTHER: (
        r"order|orders|invoice|tracking|parcel|shipment|ticket|case|isbn|issn|ean|upc|gtin|sku|serial|lot|batch|version"
        r"|build|release|commit|revision|timestamp|ts|epoch|time|took|duration|size|bytes|length|total|amount|price|port"
        r"|pid|offset|line|row|seq|sequence|request|trace|span|checksum|hash|sha|crc|bestell\w*|rechnung\w*|facture"
        r"|commande|pedido|factura|imei|mac|barcode|article|part|model|product|po|ref|reference|transaction|txn"
    ),
}
_LABELS: Final = tuple(Label)
_LABEL: Final = re.compile(
    "(?<![a-z])(?:" + "|".join(f"({_WORDS[one]})" for one in _LABELS) + r")(?![a-z])", re.IGNORECASE
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NO_LABEL: Final = re.compile(r"[\n\r;]")


def label_of(words: str) -> Label | None:
    """What a field's name, as ``customerSsn`` or ``phone_number``, announces."""
    found = None
    for match in _LABEL.finditer(_spaced(words[:LOOK_BACK])):
        found = _LABELS[(match.lastindex or 1) - 1]
        if found is not Label.OTHER:
            return found
    return found


def label_before(text: str, start: int) -> Label | None:
    """What the label closest before a position announces; None where there is none on its line."""
    lowest = max(0, start - LOOK_BACK)
    before = text[lowest:start]
    cut = max((match.end() for match in _NO_LABEL.finditer(before)), default=0)
    before = _spaced(before[cut:])
    last = None
    for match in _LABEL.finditer(before):
        last = match
    if last is None:
        return None
    gap = before[last.end() :]
    if len(gap) > LONGEST_GAP or any("0" <= one <= "9" for one in gap):
        return None
    return _LABELS[(last.lastindex or 1) - 1]


def _spaced(words: str) -> str:
    return _CAMEL.sub(" ", words).replace("_", " ").replace("-", " ")
