"""Kinds of personal data, what is done with each, and the marker that stands in its place."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Final

from agentos.kernel.errors import Conflict, Invalid
from agentos.kernel.facts import Fact

DEFAULT_TEMPLATE: Final = "[REDACTED: {type}]"
MOST_TEMPLATE: Final = 60  # characters; a marker is read in the middle of a line
LEAST_KEY: Final = 32  # characters of the installation's key: 128 bits in hex
HASH_DIGITS: Final = 16  # hex digits of a hash that are shown: 64 bits, no two of a billion values share one by chance
MOST_REGIONS: Final = 20

ANNOTATION: Final = "x-personal"  # the keyword of a JSON schema that says what a field holds


class BadPrivacyRules(Invalid):
    """Rules of privacy that cannot be kept."""

    code = "bad_privacy_rules"


class PrivacyKeyMissing(Conflict):
    """Hashes need a key, and this installation has none."""

    code = "privacy_key_missing"


class AnswerTooLarge(Invalid):
    """An answer is too large to be looked through for a caller who may not see personal data."""

    code = "answer_too_large"
    status = 413


class TextTooLong(Invalid):
    """A text or value that is larger than what is looked through at once."""

    code = "text_too_long"


class ValueTooDeep(Invalid):
    """A value that is nested deeper than what is looked through."""

    code = "value_too_deep"


class Sensitivity(StrEnum):
    """How personal data is treated: A always, B unless switched off, C where switched on."""

    A = "A"
    B = "B"
    C = "C"


class Kind(StrEnum):
    """A kind of personal data."""

    NATIONAL_ID = "national_id"
    CARD = "card"
    BANK_ACCOUNT = "bank_account"
    KEY = "key"
    PASSWORD = "password"  # noqa: S105  # a kind, not one
    EMAIL = "email"
    PHONE = "phone"
    ADDRESS = "address"
    NAME = "name"
    BIRTH_DATE = "birth_date"
    IP = "ip"
    USER_ID = "user_id"
    LOCATION = "location"

    @property
    def sensitivity(self) -> Sensitivity:
        """The kind's class."""
        return _SENSITIVITY[self]


_SENSITIVITY: Final = {
    **dict.fromkeys((Kind.NATIONAL_ID, Kind.CARD, Kind.BANK_ACCOUNT, Kind.KEY, Kind.PASSWORD), Sensitivity.A),
    **dict.fromkeys((Kind.EMAIL, Kind.PHONE, Kind.ADDRESS, Kind.NAME, Kind.BIRTH_DATE), Sensitivity.B),
    **dict.fromkeys((Kind.IP, Kind.USER_ID, Kind.LOCATION), Sensitivity.C),
}
ALWAYS: Final = frozenset(kind for kind in Kind if kind.sensitivity is Sensitivity.A)
USUAL: Final = ALWAYS | {kind for kind in Kind if kind.sensitivity is Sensitivity.B}


class Mode(StrEnum):
    """What becomes of what was found."""

    MASK = "mask"  # a marker that names the kind
    HASH = "hash"  # a marker with a keyed hash: equal values stay equal
    REMOVE = "remove"  # nothing stands in its place


Counts = Counter[Kind]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something personal in a text, by its place. The value itself is not kept."""

    start: int
    end: int
    kind: Kind


@dataclass(frozen=True)
class Rules:
    """What is looked for and what becomes of it. The kinds of class A are always among ``kinds``."""

    kinds: frozenset[Kind] = USUAL
    mode: Mode = Mode.MASK
    modes: Mapping[Kind, Mode] = field(default_factory=dict)  # of the kinds that differ from ``mode``
    template: str = DEFAULT_TEMPLATE
    regions: tuple[str, ...] = ("US", "GB", "DE", "FR", "ES", "IT", "NL")  # whose national phone numbers are looked for
    key: bytes = field(default=b"", repr=False)  # of the organization; empty: nothing can be hashed

    def __post_init__(self) -> None:
        if ALWAYS - self.kinds:
            raise BadPrivacyRules("kinds of class A are always looked for", where="kinds")
        if self.template.count("{type}") != 1 or len(self.template) > MOST_TEMPLATE:
            raise BadPrivacyRules(
                "the template does not hold '{type}' once, or is too long",
                where="template",
                then=f"Write for example '{DEFAULT_TEMPLATE}', {MOST_TEMPLATE} characters at most.",
            )
        around = self.template.replace("{type}", "")
        if (
            not around.isprintable()
            or re.search(r"[0-9@{}\\\"]", around)
            or not re.search(r"\{type\}\W", self.template)
        ):
            raise BadPrivacyRules(
                "the template holds what JSON, a number or an address could be made of",
                where="template",
                then="Use letters, spaces and brackets, and let a bracket or the like follow '{type}'.",
            )
        if len(self.regions) > MOST_REGIONS or not all(re.fullmatch("[A-Z]{2}", one) for one in self.regions):
            raise BadPrivacyRules(
                "a region is two capital letters", where="regions", then=f"As DE; {MOST_REGIONS} at most."
            )

    @property
    def hashes(self) -> bool:
        """Whether any kind is hashed."""
        return Mode.HASH in {self.mode, *self.modes.values()}

    def mode_of(self, kind: Kind) -> Mode:
        """What becomes of this kind."""
        return self.modes.get(kind, self.mode)

    def replacement(self, kind: Kind, value: str) -> str:
        """What stands in the place of a value."""
        mode = self.mode_of(kind)
        if mode is Mode.REMOVE:
            return ""
        shown = kind.name
        if mode is Mode.HASH:
            if not self.key:
                raise PrivacyKeyMissing("hashes need a key", then="Set AGENTOS_PRIVACY_KEY, or use another mode.")
            shown += " " + _hashed(self.key, kind, value)
        return self.template.replace("{type}", shown)

    @cached_property
    def markers(self) -> re.Pattern[str]:
        """Matches every marker that these rules or the usual ones put into a text, and nothing else."""
        kinds = f"(?:{'|'.join(kind.name for kind in Kind)})(?: [0-9a-f]{{{HASH_DIGITS}}})?"
        templates = {self.template, DEFAULT_TEMPLATE}
        return re.compile("|".join(re.escape(one).replace(r"\{type\}", kinds) for one in sorted(templates)))

    @cached_property
    def lead(self) -> tuple[str, ...]:
        """How markers begin: a text without any of these holds none."""
        return tuple({one.partition("{type}")[0] for one in (self.template, DEFAULT_TEMPLATE)})

    def document(self) -> dict[str, Any]:
        """The rules as JSON data, without the key."""
        return {
            "kinds": sorted(kind.value for kind in self.kinds),
            "mode": self.mode.value,
            "modes": {kind.value: mode.value for kind, mode in sorted(self.modes.items())},
            "template": self.template,
            "regions": list(self.regions),
        }

    @classmethod
    def read(cls, data: Mapping[str, Any], *, key: bytes) -> Rules:
        """The rules that a document of ``document``'s form holds. Raises BadPrivacyRules (Invalid)."""
        try:
            return cls(
                kinds=ALWAYS | {Kind(one) for one in data["kinds"]},
                mode=Mode(data["mode"]),
                modes={Kind(kind): Mode(mode) for kind, mode in data["modes"].items()},
                template=data["template"],
                regions=tuple(data["regions"]),
                key=key,
            )
        except ValueError as error:
            raise BadPrivacyRules(str(error), then="See docs/privacy.md for kinds and modes.") from None


def key_of(installation: str, organization: str) -> bytes:
    """An organization's key for hashes: another one for every organization, and nobody finds it without ours."""
    if not installation:
        return b""
    return hmac.digest(installation.encode(), b"agentos privacy " + organization.encode(), hashlib.sha256)


def _hashed(key: bytes, kind: Kind, value: str) -> str:
    """The shown digits of the keyed hash of a value, however it was written: '+49 30 1' and '+49301' are one."""
    plain = "".join(one for one in value.casefold() if one.isalnum() or one in "@+")
    secret = kind in (Kind.PASSWORD, Kind.KEY)  # where every character counts
    return hmac.digest(
        key, f"{kind}\0{value if secret else plain}".encode(errors="surrogatepass"), hashlib.sha256
    ).hex()[:HASH_DIGITS]


def counted(findings: Iterable[Finding]) -> Counts:
    """How many there are of each kind."""
    return Counter(one.kind for one in findings)


def told(counts: Counts) -> dict[str, int]:
    """Counts as they are shown: by the kind's name, in order."""
    return {kind.name: counts[kind] for kind in Kind if counts[kind]}


@dataclass(frozen=True, slots=True)
class PrivacyRulesChanged(Fact):
    """An organization said what is looked for and what becomes of it."""

    key_field: ClassVar[str] = "organization"
    organization: str
    digest: str
    by: str


@dataclass(frozen=True, slots=True)
class PersonalDataRedacted(Fact):
    """Personal data was kept from somebody: how much of each kind, never what. One per run, not per line."""

    key_field: ClassVar[str] = "about"
    about: str  # the run that it is about
    place: str  # prompts
    counts: dict[str, int]
