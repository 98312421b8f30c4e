"""What breaks whoever relied on one version of a skill when they get another, and why.

Every call that the old version took, the new one must take; everything that the new one gives, the old one might have
given. What cannot be compared counts as broken, and says so.

A result may hold more than its schema names: consumers look at what they know, so a field more breaks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentos.runtime.skills.model import Contract, Reversibility
from agentos.runtime.skills.schemas import Misfit, misfits

MOST_REASONS: Final = 50
_HARDER: Final = (Reversibility.REVERSIBLE, Reversibility.COMPENSABLE, Reversibility.IRREVERSIBLE)

# In words, for arguments and for results.
_SAID: Final = {
    Misfit.REQUIRED: ("is required now", "is not always there any more"),
    Misfit.GONE: ("is not taken any more", "is gone"),
    Misfit.TYPE: ("takes a narrower type", "may be of another type"),
    Misfit.VALUES: ("takes fewer values", "may have a new value"),
    Misfit.BOUND: ("is limited more", "is limited less"),
    Misfit.UNKNOWN: ("cannot be compared", "cannot be compared"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """What two versions of a skill differ in, for whoever relied on the first."""

    breaking: tuple[str, ...]
    compatible: tuple[str, ...]


def compare(was: Contract, now: Contract) -> Difference:
    """What of ``now`` breaks who relies on ``was``, each with its reason, and what else is new."""
    breaking, compatible = [], []
    taken = misfits(was.input_schema, now.input_schema)
    given = misfits(now.output_schema, was.output_schema, may_hold_more=True)
    breaking += [_words("input", place, kind, why, 0) for place, kind, why in taken]
    breaking += [_words("output", place, kind, why, 1) for place, kind, why in given]
    breaking += [f"output.{path}: is not promised to be stable any more" for path in _less(was.stable, now.stable)]
    if now.effect > was.effect:
        breaking.append(f"effect: raised from {was.effect.name} to {now.effect.name}")
    if _HARDER.index(now.reversibility) > _HARDER.index(was.reversibility):
        breaking.append(f"reversibility: from {was.reversibility} to {now.reversibility}")
    if was.idempotent and not now.idempotent:
        breaking.append("idempotent: not promised any more")
    if was.failures is not None:
        added = "may fail in ways that nobody declared" if now.failures is None else ""
        breaking += [f"failures: {added}"] if added else []
        breaking += [f"failures: {code} added" for code in _less(now.failures or (), was.failures)]
    if not taken and was.input_schema != now.input_schema:
        compatible.append("input: takes all that it took")
    if not given and was.output_schema != now.output_schema:
        compatible.append("output: gives nothing that it did not")
    for what, one, other in (
        ("effect", was.effect.name, now.effect.name),
        ("reversibility", was.reversibility, now.reversibility),
        ("timeout", f"{was.timeout_seconds:g} s", f"{now.timeout_seconds:g} s"),
        ("cost", _priced(was), _priced(now)),
    ):
        if one != other and not any(reason.startswith(f"{what}:") for reason in breaking):
            compatible.append(f"{what}: from {one} to {other}")
    compatible += [f"output.{path}: is promised to be stable" for path in _less(now.stable, was.stable)]
    return Difference(tuple(breaking[:MOST_REASONS]), tuple(compatible[:MOST_REASONS]))


def _words(what: str, place: str, kind: Misfit, why: str, side: int) -> str:
    said = f"{what}{place if place.startswith('[') else '.' + place if place else ''}: {_SAID[kind][side]}"
    return f"{said} ({why})" if why else said


def _less(was: Sequence[str], now: Sequence[str]) -> list[str]:
    return [one for one in was if one not in now]


def _priced(one: Contract) -> str:
    if one.cost is None:
        return "unknown"
    per_unit = f" and {one.cost.per_unit} per {one.cost.unit}" if one.cost.unit else ""
    return f"{one.cost.per_call} micros a call{per_unit}"
