"""Texts with personal data whose places are known, and texts that only look so.

Nothing here knows the detector. People's data comes from Faker's providers, which compute checksums by themselves; keys
are made by the libraries that make real ones (cryptography, joserfc, secrets) or to the lengths in their issuers'
documents; what is no personal data comes from this repository's history, lock file and sources, and from generators of
identifiers. The texts around are what such values stand in: logs, JSON, tickets, forms, CSV, code.
"""

from __future__ import annotations

import base64
import json
import random
import string
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from faker import Faker
from joserfc import jwt
from joserfc.jwk import OctKey
from typeid import TypeID

HOUSE: Final = Path(__file__).parent.parent.parent

# Locales whose provider makes the country's own number; the others fall back to the United States' form.
NATIONAL: Final = [
    *("en_US", "en_CA", "fr_FR", "it_IT", "nl_NL", "pl_PL", "pt_BR", "sv_SE", "fi_FI", "no_NO", "tr_TR", "ro_RO"),
    *("zh_CN", "ko_KR", "et_EE", "hr_HR", "el_GR", "de_CH", "he_IL", "th_TH", "nl_BE", "de_AT", "uk_UA"),
]
BANKS: Final = [
    *("de_DE", "fr_FR", "it_IT", "es_ES", "nl_NL", "pl_PL", "pt_PT", "sv_SE", "fi_FI", "da_DK", "no_NO", "cs_CZ"),
    *("tr_TR", "de_CH", "en_GB", "de_AT", "nl_BE"),
]
PHONES: Final = ["en_US", "en_GB", "de_DE", "fr_FR", "it_IT", "es_ES", "nl_NL", "pl_PL", "sv_SE", "no_NO", "cs_CZ"]

# What forms and files of each country call it; the words are those of its administration.
CALLED: Final = {
    "en_US": "SSN", "en_CA": "Social Insurance Number", "fr_FR": "numéro de sécurité sociale",
    "it_IT": "codice fiscale",
    "nl_NL": "BSN", "pl_PL": "PESEL", "pt_BR": "CPF", "sv_SE": "personnummer", "fi_FI": "henkilötunnus",
    "no_NO": "fødselsnummer", "tr_TR": "T.C. Kimlik No", "ro_RO": "CNP", "zh_CN": "身份证号", "ko_KR": "주민등록번호",
    "et_EE": "isikukood", "hr_HR": "OIB", "el_GR": "AMKA", "de_CH": "AHV-Nummer", "he_IL": "תעודת זהות",
    "th_TH": "national ID", "nl_BE": "rijksregisternummer", "de_AT": "Sozialversicherungsnummer", "uk_UA": "РНОКПП",
    "es_ES": "DNI", "es_MX": "CURP", "en_IN": "Aadhaar", "cs_CZ": "rodné číslo",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """A value in a document: where it begins and ends, and what it is."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text and all the personal data that it holds."""

    text: str
    planted: tuple[Planted, ...]
    source: str  # what it is like, for telling where something was missed


class Corpus:
    """Makes documents from one seed. Private keys and TypeIDs are made anew each time, everything else is the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fakers = {
            name: Faker(name) for name in sorted({*NATIONAL, *BANKS, *PHONES, "es_ES", "es_MX", "en_IN", "cs_CZ"})
        }
        for number, faker in enumerate(self.fakers.values()):
            faker.seed_instance(seed * 1000 + number)
        self.english = self.fakers["en_US"]

    def positives(self, each: int) -> Iterator[Document]:
        """``each`` documents per kind and kind of text."""
        for kind, make in self._makers().items():
            for frame, write in FRAMES.items():
                for _ in range(each):
                    value, called = make()
                    before, after = write(self, called)
                    planted = Planted(len(before), len(before) + len(value), kind)
                    yield Document(before + value + after, (planted,), f"{kind} in {frame}: {called}")

    def _makers(self) -> dict[str, Callable[[], tuple[str, str]]]:
        return {
            "card": self._card,
            "national_id": self._national_id,
            "bank_account": self._bank_account,
            "key": self._key,
            "password": self._password,
            "email": lambda: (self.random.choice([self.english.email, self.english.company_email])(), "email"),
            "phone": self._phone,
        }

    def _card(self) -> tuple[str, str]:
        issuer = self.random.choice(["visa16", "mastercard", "amex", "discover", "jcb16", "diners"])
        number = self.english.credit_card_number(card_type=issuer)
        if self.random.random() < 0.4:
            sizes = (4, 6, 5) if len(number) == 15 else (4, 6, 4) if len(number) == 14 else (4, 4, 4, 4)
            separator = self.random.choice(" -")
            parts, place = [], 0
            for size in sizes:
                parts.append(number[place : place + size])
                place += size
            number = separator.join(parts)
        return number, self.random.choice(("card number", "credit card", "PAN", "Kreditkarte", "carte bancaire"))

    def _national_id(self) -> tuple[str, str]:
        others: dict[str, Callable[[Faker], str]] = {
            "es_ES": lambda faker: self.random.choice([faker.nif, faker.nie])(),
            "es_MX": lambda faker: faker.curp(),
            "en_IN": lambda faker: faker.aadhaar_id(),
            "cs_CZ": lambda faker: faker.birth_number(),
        }
        locale = self.random.choice([*NATIONAL, *others])
        faker = self.fakers[locale]
        return others.get(locale, lambda one: one.ssn())(faker), CALLED[locale]

    def _bank_account(self) -> tuple[str, str]:
        number = self.fakers[self.random.choice(BANKS)].iban()
        if self.random.random() < 0.5:
            number = " ".join(number[place : place + 4] for place in range(0, len(number), 4))
        return number, self.random.choice(("IBAN", "account", "Konto", "compte bancaire", "bank details"))

    def _phone(self) -> tuple[str, str]:
        return self.fakers[self.random.choice(PHONES)].phone_number(), self.random.choice(
            ("phone", "mobile", "Telefon", "téléphone", "teléfono", "contact")
        )

    def _password(self) -> tuple[str, str]:
        kinds = (
            lambda: self.english.password(length=self.random.randint(8, 20)),
            lambda: self.english.password(length=self.random.randint(8, 16), special_chars=False),
            lambda: self.english.word().capitalize() + str(self.random.randint(10, 9999)) + self.random.choice("!?#$*"),
        )
        while True:
            value = self.random.choice(kinds)()
            if not set(value) & set("\"'`,;&<>(){}[]"):  # what ends a value in the texts around
                return value, self.random.choice(("password", "passwd", "Passwort", "db_password", "pwd", "passphrase"))

    def _key(self) -> tuple[str, str]:
        letters, capitals = string.ascii_letters + string.digits, string.ascii_uppercase + "234567"
        made: tuple[tuple[str, Callable[[], str]], ...] = (
            ("AWS_ACCESS_KEY_ID", lambda: "AKIA" + self._of(capitals, 16)),
            ("aws_secret_access_key", lambda: base64.b64encode(self.random.randbytes(30)).decode()),
            ("GITHUB_TOKEN", lambda: "ghp_" + self._of(letters, 36)),
            ("github_token", lambda: f"github_pat_{self._of(letters, 22)}_{self._of(letters, 59)}"),
            ("GITLAB_TOKEN", lambda: "glpat-" + self._of(letters + "-_", 20)),
            (
                "SLACK_BOT_TOKEN",
                lambda: f"xoxb-{self._of(string.digits, 12)}-{self._of(string.digits, 13)}-{self._of(letters, 24)}",
            ),
            ("stripe_key", lambda: "sk_live_" + self._of(letters, 24)),
            ("GOOGLE_API_KEY", lambda: "AIza" + self._of(letters + "-_", 35)),
            ("OPENAI_API_KEY", lambda: "sk-proj-" + self._of(letters + "-_", 48)),
            ("ANTHROPIC_API_KEY", lambda: "sk-ant-api03-" + self._of(letters + "-_", 95)),
            ("SENDGRID_API_KEY", lambda: f"SG.{self._of(letters + '-_', 22)}.{self._of(letters + '-_', 43)}"),
            ("NPM_TOKEN", lambda: "npm_" + self._of(letters, 36)),
            ("HF_TOKEN", lambda: "hf_" + self._of(string.ascii_letters, 34)),
            ("api_key", lambda: self.random.randbytes(16).hex()),
            ("client_secret", lambda: base64.urlsafe_b64encode(self.random.randbytes(24)).decode().rstrip("=")),
            ("access_token", self._jwt),
            ("private key", self._pem),
        )
        called, make = self.random.choice(made)
        return make(), called

    def _of(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choices(alphabet, k=length))

    def _jwt(self) -> str:
        claims = {"sub": str(uuid.UUID(int=self.random.getrandbits(128))), "iat": 1_700_000_000, "scope": "read write"}
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.random.randbytes(32)))

    def _pem(self) -> str:
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
        if self.random.random() < 0.2:
            key = rsa.generate_private_key(65537, 2048)
        form = self.random.choice((serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL))
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode().strip()

    def moment(self) -> datetime:
        """Some moment of the last years."""
        return datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=self.random.randint(0, 120_000_000))

    def negatives(self, each: int) -> Iterator[Document]:
        """Texts without personal data of class A or B that look as if they had some."""
        for source, make in NEGATIVES.items():
            for _ in range(each):
                yield Document(make(self), (), source)
        for source, text in house():
            yield Document(text, (), source)


def _log(corpus: Corpus, called: str) -> tuple[str, str]:
    at = corpus.moment().isoformat(timespec="milliseconds")
    name = called.replace(" ", "_").lower()
    return (
        f"{at} INFO [worker-{corpus.random.randint(1, 9)}] billing.checkout request_id={TypeID(prefix='req')} {name}=",
        f" duration_ms={corpus.random.randint(1, 9000)} status=200",
    )


def _json(corpus: Corpus, called: str) -> tuple[str, str]:
    name = json.dumps(called, ensure_ascii=False)
    return (
        f'{{"id": "{TypeID(prefix="cus")}", "created": {int(corpus.moment().timestamp())}, {name}: "',
        f'", "plan": "{corpus.english.word()}", "version": "2.{corpus.random.randint(0, 30)}.0"}}',
    )


def _ticket(corpus: Corpus, called: str) -> tuple[str, str]:
    asked = corpus.english.sentence()
    said = corpus.random.choice(
        (
            f"My {called} is ",
            f"Here is the {called}: ",
            f"the {called} we have on file is ",
            f"({called} ",
            f"{called} = ",
        )
    )
    return (
        f"Ticket #{corpus.random.randint(1000, 99999)}\n\n{asked} {said}",
        f"\n\nThanks, {corpus.english.first_name()}",
    )


def _form(corpus: Corpus, called: str) -> tuple[str, str]:
    return f"Date: {corpus.moment():%Y-%m-%d}\n{called}: ", f"\nAmount: {corpus.english.pricetag()}\n"


def _csv(corpus: Corpus, called: str) -> tuple[str, str]:
    row = f"{corpus.random.randint(1, 99999)},{corpus.moment():%Y-%m-%d},"
    return f"id,date,{called},state\n{row}", ",active\n"


def _code(_corpus: Corpus, called: str) -> tuple[str, str]:
    name = "".join(one if one.isascii() and one.isalnum() else "_" for one in called).lower().strip("_") or "id_number"
    return f'def test_payment(client):\n    {name} = "', '"\n    assert client.get("/v1/charges/42").status == 200\n'


FRAMES: Final = {"log": _log, "json": _json, "ticket": _ticket, "form": _form, "csv": _csv, "code": _code}


def _sentence(corpus: Corpus, *words: str) -> str:
    return f"{corpus.english.sentence()} {' '.join(words)} {corpus.english.sentence()}"


def _digits(corpus: Corpus, count: int) -> str:
    return str(corpus.random.randint(1, 9)) + "".join(corpus.random.choices(string.digits, k=count - 1))


NEGATIVES: Final[dict[str, Callable[[Corpus], str]]] = {
    "uuid": lambda one: _sentence(one, "trace", str(uuid.UUID(int=one.random.getrandbits(128), version=4))),
    "typeid": lambda one: f"{one.moment().isoformat()} run {TypeID(prefix='run')} of {TypeID(prefix='dep')} ended",
    "sha": lambda one: f"pushed {one.random.randbytes(20).hex()} and {one.random.randbytes(4).hex()[:7]} to main",
    "digest": lambda one: f"image@sha256:{one.random.randbytes(32).hex()} pulled, md5 {one.random.randbytes(16).hex()}",
    "epoch": lambda one: f"ts={one.moment().timestamp():.0f} ms={one.moment().timestamp() * 1000:.0f} "
    f"us={one.moment().timestamp() * 1e6:.0f} ns={one.moment().timestamp() * 1e9:.0f}",
    "bare epoch": lambda one: f"[{one.moment().timestamp() * 1000:.0f}, {one.moment().timestamp():.3f}]",
    "moment": lambda one: f"{one.moment().isoformat()} to {one.moment():%d.%m.%Y %H:%M:%S} or {one.moment():%m/%d/%Y}",
    "isbn": lambda one: _sentence(one, "ISBN", one.english.isbn13(), "or", one.english.isbn10()),
    "ean": lambda one: f"scanned {one.english.ean13()} at till {one.random.randint(1, 20)}, next {one.english.ean8()}",
    "order": lambda one: _sentence(one, "order", _digits(one, 10), "invoice", f"INV-{_digits(one, 8)}"),
    "order number": lambda one: f"Your order {_digits(one, 12)} ships {one.moment():%Y-%m-%d}. Ref {_digits(one, 9)}.",
    "bare number": lambda one: f"row {_digits(one, 9)} {_digits(one, 11)} {_digits(one, 10)}",
    "long number": lambda one: f"snowflake {_digits(one, 18)} shard {_digits(one, 16)} of {_digits(one, 13)}",
    "price": lambda one: _sentence(one, f"{one.random.uniform(1, 9e6):,.2f} EUR", "or", one.english.pricetag()),
    "version": lambda one: f"python {one.random.randint(2, 3)}.{one.random.randint(0, 14)}.{one.random.randint(0, 20)} "
    f"chrome/{one.random.randint(80, 130)}.0.{_digits(one, 4)}.{_digits(one, 3)} lib 1.{_digits(one, 8)}.0",
    "base64": lambda one: f"payload {base64.b64encode(one.random.randbytes(90)).decode()} end",
    "hex": lambda one: " ".join(one.random.randbytes(2).hex() for _ in range(16)),
    "mac and ip": lambda one: f"{one.english.mac_address()} has {one.english.ipv4()} and {one.english.ipv6()}",
    "pod": lambda one: f"pod/api-{one.random.randbytes(5).hex()}-x{one.random.randbytes(2).hex()} 1/1 Running 0 9d",
    "user agent": lambda one: f'"GET /v1/runs HTTP/1.1" 200 {_digits(one, 5)} "{one.english.user_agent()}"',
    "code": lambda one: one.english.bothify("LOT ????-######## SKU ??####?? PN ###-####-## ").upper(),
    "matrix": lambda one: " ".join(f"{one.random.gauss(0, 1):.8f}" for _ in range(12)),
    "vin and plate": lambda one: f"{one.english.bothify('?????????????????').upper()} {one.english.license_plate()}",
    "prose": lambda one: one.english.paragraph(nb_sentences=6),
    "about secrets": lambda one: one.random.choice(
        (
            "Reset your password: choose at least twelve characters.",
            "password: str = Field(max_length=256)",
            "token = next(tokens)  # the key of the cache",
            "secret: secret://stripe-live, rotated every quarter",
            "The API key is read from the environment, see docs/keys.md",
            "password=os.environ['DB_PASSWORD'], token=get_token(request)",
            "if key in seen: raise KeyError(key)",
            "kubectl get secret my-secret -o yaml | grep token:",
            "WHERE password = :password AND token = $1",
            'api_key: "${API_KEY}"',
        )
    ),
    "about @": lambda one: one.random.choice(
        (
            "uses: actions/checkout@v4 and npm install @types/node@20.1.0",
            "@app.get('/x')\n@pytest.mark.parametrize('n', [1])",
            "git clone git@github.com:org/repo.git, logo@2x.png, 3 @ 4.50",
            "thanks @maintainer, see user@ and @home",
        )
    ),
}  # fmt: skip


def house() -> Iterator[tuple[str, str]]:
    """This repository as it is: its history, its lock files, its sources and its documents."""
    said = subprocess.run(
        ["git", "-C", str(HOUSE), "log", "-200", "--format=%H %h %ct %s"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    yield "git log", said.stdout
    for name in ("requirements.txt", "benchmarks/peers.txt", "pyproject.toml", "CHANGELOG.md"):
        yield name, (HOUSE / name).read_text()
    for folder in ("src", "docs", "migrations"):
        for file in sorted((HOUSE / folder).rglob("*")):
            if (
                file.suffix in (".py", ".md", ".sql", ".yaml")
                and "privacy" not in file.parts
                and file.stem != "privacy"
            ):
                yield str(file.relative_to(HOUSE)), file.read_text()
