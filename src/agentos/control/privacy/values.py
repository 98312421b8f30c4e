"""Redact texts and JSON values. JSON stays JSON: what was found is replaced where it stands, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from agentos.control.privacy.finder import find
from agentos.control.privacy.labels import Label, label_of
from agentos.control.privacy.model import ANNOTATION, Counts, Kind, Rules, ValueTooDeep
from agentos.control.privacy.ports import Recognizer

MOST_DEPTH: Final = 200  # of a value; what the API takes is nested 64 deep at most
MOST_PASSES: Final = 4  # over one text: what was taken out may bring together what then looks like a number
LEAST_NUMBER: Final = 10**6  # a whole number below it is no card, account or phone
LONGEST_NAME: Final = 60  # of a field; a longer one is somebody's text
MOST_SCHEMAS: Final = 200  # that apply to one value, references followed

Schema = Mapping[str, Any]

_SECRET_FIELD: Final = re.compile(
    r"(?:^|_)(?:pass(?:word|phrase|code|wd)|passwort|pwd|contrasena|senha|(?P<key>secret|apikey|api_key|access_key|"
    r"private_key|secret_key|client_secret|access_token|auth_token|refresh_token|authorization|id_token))(?:_?[0-9])?$"
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def redact(
    value: Any,
    rules: Rules,
    *,
    named: str = "",
    schema: Schema | None = None,
    recognizer: Recognizer | None = None,
) -> tuple[Any, Counts]:
    """A text or JSON value with markers in the place of what the rules look for, and how much of each kind that was.

    Fields that the ``schema`` annotates are of the kind that it says; ``named`` is the name of the field that holds the
    value. Redacting again changes nothing. Raises TextTooLong or ValueTooDeep (Invalid), PrivacyKeyMissing (Conflict).
    """
    at_work = _Redaction(rules, recognizer, schema)
    return at_work.value(value, named, [] if schema is None else [schema], 0), at_work.counts


def masked(value: Any, rules: Rules, *, schema: Schema | None = None, recognizer: Recognizer | None = None) -> bool:
    """Whether redaction would keep anything of this value from somebody."""
    return bool(redact(value, rules, schema=schema, recognizer=recognizer)[1])


@dataclass(slots=True)
class _Redaction:
    rules: Rules
    recognizer: Recognizer | None
    root: Schema | None
    counts: Counts = field(default_factory=Counts)

    def value(self, value: Any, named: str, schemas: list[Schema], depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise ValueTooDeep(f"nested deeper than {MOST_DEPTH}", then="Make it flatter.")
        applying = list(self._applying(schemas)) if schemas else []
        kind = next((one for one in map(_annotated, applying) if one is not None), None)
        if kind is not None and kind in self.rules.kinds and value not in (None, "", [], {}):
            return self._whole(kind, value)
        if isinstance(value, str):
            return self.text(value, named)
        if isinstance(value, Mapping):
            return self._mapping(value, applying, depth)
        if isinstance(value, (list, tuple)):
            return [self.value(one, named, _of_item(applying, place), depth + 1) for place, one in enumerate(value)]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._number(value, named)
        return value

    def text(self, text: str, named: str) -> str:
        secret = secret_field(named) if text and 0 < len(named) <= LONGEST_NAME else None
        if secret is not None and secret in self.rules.kinds and not text.startswith("secret://"):
            return self._whole(secret, text)
        for _ in range(MOST_PASSES):
            found = find(text, self.rules, named=named, recognizer=self.recognizer)
            if not found:
                break
            parts, place = [], 0
            for one in found:
                parts += [text[place : one.start], self.rules.replacement(one.kind, text[one.start : one.end])]
                place = one.end
                self.counts[one.kind] += 1
            text = "".join(parts) + text[place:]
        return text

    def _mapping(self, value: Mapping[Any, Any], applying: list[Schema], depth: int) -> dict[Any, Any]:
        redacted: dict[Any, Any] = {}
        for name, below in value.items():
            shown = self.text(name, "") if isinstance(name, str) else name
            free, number = shown, 1
            while free in redacted:  # two names that became one marker stay two
                number += 1
                free = f"{shown} ({number})"
            redacted[free] = self.value(below, self._name(name), _of_property(applying, name), depth + 1)
        return redacted

    def _name(self, name: Any) -> str:
        """A field's name as a label, without markers: what they say is of what they replaced."""
        return self.rules.markers.sub(" ", name) if isinstance(name, str) else str(name)

    def _number(self, value: float, named: str) -> Any:
        written = str(value)
        label = label_of(named) if named else None
        if isinstance(value, float) and label is not Label.LOCATION:
            return value
        if abs(value) < LEAST_NUMBER and label not in (Label.LOCATION, Label.USER_ID):
            return value
        found = find(written, self.rules, named=named)
        if not found:
            return value
        return self._whole(found[0].kind, written)

    def _whole(self, kind: Kind, value: Any) -> str:
        written = value if isinstance(value, str) else repr(value)
        if isinstance(value, str) and self.rules.markers.fullmatch(value):
            return value
        self.counts[kind] += 1
        return self.rules.replacement(kind, written)

    def _applying(self, schemas: list[Schema]) -> Iterator[Schema]:
        """The schemas that say something of a value: those given, what they refer to, what they are put together of.

        Alternatives all count: a field that is personal in one of them is personal.
        """
        left, seen = list(schemas), set[int]()
        while left and len(seen) < MOST_SCHEMAS:
            one = left.pop()
            if not isinstance(one, Mapping) or id(one) in seen:
                continue
            seen.add(id(one))
            yield one
            if isinstance(one.get("$ref"), str):
                target = self._target(one["$ref"])
                left += [target] if target is not None else []
            for word in ("allOf", "anyOf", "oneOf"):
                left += one.get(word) or []
            left += [one[word] for word in ("if", "then", "else") if word in one]

    def _target(self, reference: str) -> Any:
        """What a reference to '#' or '#/$defs/NAME' leads to; others are not allowed in our schemas."""
        found: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part) if isinstance(found, Mapping) else None
        return found


def _annotated(schema: Schema) -> Kind | None:
    said = schema.get(ANNOTATION)
    return Kind(said) if isinstance(said, str) and said in _KINDS else None


_KINDS: Final = frozenset(kind.value for kind in Kind)


def _of_property(applying: list[Schema], name: Any) -> list[Schema]:
    found: list[Schema] = []
    for schema in applying:
        below = (schema.get("properties") or {}).get(name)
        if below is None:
            matching = [
                one
                for pattern, one in (schema.get("patternProperties") or {}).items()
                if isinstance(name, str) and re.search(pattern, name)
            ]
            found += matching or [schema.get("additionalProperties")]
        else:
            found.append(below)
    return [one for one in found if isinstance(one, Mapping)]


def _of_item(applying: list[Schema], place: int) -> list[Schema]:
    found = []
    for schema in applying:
        prefix = schema.get("prefixItems") or []
        found.append(prefix[place] if place < len(prefix) else schema.get("items"))
    return [one for one in found if isinstance(one, Mapping)]


@lru_cache(maxsize=1000)  # names of fields are few
def secret_field(named: str) -> Kind | None:
    """What the name of a field says its whole text is."""
    found = _SECRET_FIELD.search(_CAMEL.sub("_", named).replace("-", "_").casefold())
    if found is None:
        return None
    return Kind.KEY if found["key"] else Kind.PASSWORD
