"""Rules of organizations, and redaction by them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from agentos.control.privacy import store, values
from agentos.control.privacy.finder import suspect
from agentos.control.privacy.model import (
    USUAL,
    Counts,
    Kind,
    Mode,
    PrivacyKeyMissing,
    PrivacyRulesChanged,
    Rules,
    key_of,
)
from agentos.control.privacy.ports import Recognizer
from agentos.control.privacy.settings import PrivacySettings
from agentos.control.privacy.values import Schema
from agentos.kernel.canonical import digest
from agentos.kernel.errors import AgentOSError
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import PERSONAL_DATA
from agentos.kernel.unit_of_work import UnitOfWork

ASIDE_CHARACTERS: Final = 20_000  # about 5 ms of work; more is done beside the event loop
UNKNOWN: Final = "[REDACTED: UNKNOWN]"  # a value whose schema is not loaded: any field of it may be personal
UNREADABLE: Final = "[REDACTED: UNREADABLE]"  # in a log line, where looking through a value failed
PLAIN: Final = frozenset({"timestamp", "level", "service"})  # fields of a log line that we write and nobody else


@dataclass(frozen=True, slots=True)
class Privacy:
    """How a process redacts: the installation's rules, its key, and a recognizer for free text where there is one."""

    settings: PrivacySettings = field(default_factory=PrivacySettings.read)
    recognizer: Recognizer | None = None
    meter: Meter | None = None

    def count(self, counts: Counts, place: str) -> None:
        """Count what was redacted, by kind and place."""
        if self.meter is not None:
            for kind, number in counts.items():
                self.meter.count(PERSONAL_DATA, number, place=place, kind=kind.name)


async def rules_of(work: UnitOfWork, privacy: Privacy) -> Rules:
    """The organization's rules; the installation's where it has none of its own."""
    kept = await store.get(work)
    if kept is None:
        return privacy.settings.rules(work.organization)
    return Rules.read(kept[0], key=key_of(privacy.settings.key.get_secret_value(), work.organization))


async def standing(work: UnitOfWork, privacy: Privacy) -> tuple[Rules, str | None, datetime | None]:
    """The rules in force, and who set them when; nobody where they are the installation's."""
    kept = await store.get(work)
    return await rules_of(work, privacy), kept and kept[1], kept and kept[2]


async def change(
    work: UnitOfWork,
    privacy: Privacy,
    *,
    kinds: frozenset[Kind],
    mode: Mode,
    modes: dict[Kind, Mode],
    template: str,
    regions: tuple[str, ...],
    by: str,
    at: datetime,
) -> Rules:
    """Set the organization's rules. Kinds of class A are looked for, asked or not.

    Raises BadPrivacyRules (Invalid), PrivacyKeyMissing (Conflict).
    """
    document = {
        "kinds": sorted(kinds),
        "mode": mode,
        "modes": dict(sorted(modes.items())),
        "template": template,
        "regions": list(regions),
    }
    rules = Rules.read(document, key=key_of(privacy.settings.key.get_secret_value(), work.organization))
    if rules.hashes and not rules.key:
        raise PrivacyKeyMissing(
            "hashes need a key, and this installation has none", then="Set AGENTOS_PRIVACY_KEY, or use another mode."
        )
    await store.put(work, rules.document(), by=by, at=at)
    await work.publish(PrivacyRulesChanged(work.organization, digest(rules.document()), by))
    return rules


async def redacted(
    privacy: Privacy, rules: Rules, value: Any, *, place: str, schema: Schema | None = None
) -> tuple[Any, Counts]:
    """A text or JSON value without what the rules look for, counted for its place; a large one beside the event loop.

    Raises TextTooLong or ValueTooDeep (Invalid).
    """

    def work() -> tuple[Any, Counts]:
        return values.redact(value, rules, schema=schema, recognizer=privacy.recognizer)

    found = await asyncio.to_thread(work) if _large(value) else work()
    privacy.count(found[1], place)
    return found


def hides(privacy: Privacy, rules: Rules, value: Any, schema: Schema | None) -> bool:
    """Whether anything of what a skill takes or returns is kept from people without the right to see personal data.

    ``schema``: the skill's; where it is not known (None) everything is kept from them.
    """
    if schema is None:
        return not is_empty(value)
    return values.masked(value, rules, schema=schema, recognizer=privacy.recognizer)


def is_empty(value: Any) -> bool:
    """Whether a value holds nothing that could be kept from anybody."""
    return value in (None, "", [], {})


def for_prompts(rules: Rules, mode: Mode) -> Rules:
    """The rules of an organization as a deployment wants them for its prompts: one mode for every kind."""
    return replace(rules, mode=mode, modes={})


def cleaner(privacy: Privacy) -> Callable[[MutableMapping[str, Any]], MutableMapping[str, Any]] | None:
    """What takes personal data out of a log line, by the installation's rules; None where that is switched off.

    It raises nothing: a value that cannot be looked through is left out and said so.
    """
    if not privacy.settings.logs:
        return None
    rules = privacy.settings.rules()
    quick = privacy.recognizer is None and rules.kinds <= USUAL

    def clean(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            if name in PLAIN or value is None or isinstance(value, (bool, float)):
                continue
            if quick and isinstance(value, str) and not suspect(value) and values.secret_field(name) is None:
                continue  # nearly every field of nearly every line
            try:
                shown, counts = values.redact(_plain(value), rules, named=name, recognizer=privacy.recognizer)
            except (AgentOSError, RecursionError):
                event[name] = UNREADABLE
                continue
            if counts:
                event[name] = shown
                privacy.count(counts, "logs")
        return event

    return clean


def _plain(value: Any) -> Any:
    """A value as the log's JSON would show it."""
    return value if isinstance(value, (str, int, dict, list, tuple)) else repr(value)


def _large(value: Any) -> bool:
    """Whether a value has more characters than what is done at once; stops counting there."""
    left, characters = [value], 0
    while left and characters <= ASIDE_CHARACTERS:
        one = left.pop()
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, dict):
            characters += sum(len(name) for name in one if isinstance(name, str))
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
    return characters > ASIDE_CHARACTERS
