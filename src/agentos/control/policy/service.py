"""Keep what organizations and deployments say of calls, and hand out what is in force for one deployment."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from string import ascii_lowercase
from typing import Final

from agentos.control.policy import cedar, store
from agentos.control.policy.model import (
    DeploymentPolicy,
    EffectClass,
    OrganizationPolicy,
    Policy,
    PolicyChanged,
    PolicyChangedMeanwhile,
    PolicyDeniesEverything,
    Saved,
    Tier,
    Verdict,
    refused,
)
from agentos.control.policy.rules import Proposed, Rulebook, decide
from agentos.control.stops import service as stops
from agentos.control.stops.model import Subject
from agentos.kernel import epochs
from agentos.kernel.epochs import ORGANIZATION
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork

MOST_ENTRIES: Final = 200  # of each list
MOST_DEPLOYMENTS: Final = 2000  # whose rulebooks a process keeps; one takes a few kB

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GLOB: Final = re.compile(r"[A-Za-z0-9_*?\[\]!-]{1,64}")
_CLASS: Final = re.compile(r"\[([^!\]])[^\]]*\]")


async def rulebook(work: UnitOfWork, subject: Subject) -> Rulebook:
    """What is in force for a deployment now. Read the epochs first: see kernel/epochs.py."""
    held = await stops.in_force(work, subject)
    own = epochs.deployment_scope(subject.deployment_id)
    found = await store.present(work, (ORGANIZATION, own))
    return Rulebook(
        subject,
        held,
        OrganizationPolicy.read(found[ORGANIZATION].document) if ORGANIZATION in found else OrganizationPolicy(),
        DeploymentPolicy.read(found[own].document) if own in found else DeploymentPolicy(),
    )


@dataclass(slots=True)
class _Kept:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    epochs: Mapping[str, int] | None = None
    book: Rulebook | None = None


class Rulebooks:
    """The rulebooks of one process: read again when an epoch of the deployment's scopes has moved, else kept.

    A rulebook is read after the epochs that it is kept under, so it is never older than they say.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[OrgId, Subject], _Kept] = OrderedDict()

    async def under(
        self, doors: Doors, organization: OrgId, subject: Subject, read_before: Mapping[str, int]
    ) -> Rulebook:
        """The rulebook of a deployment, at least as new as these epochs. Raises DatabaseUnavailable."""
        key = (organization, subject)
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_DEPLOYMENTS:
            self._kept.popitem(last=False)
        if kept.book is not None and kept.epochs == read_before:
            return kept.book
        async with kept.lock:  # a stop that moves an epoch makes every run ask at once: one of them reads
            if kept.book is None or kept.epochs != read_before:
                async with doors.open(organization) as work:
                    kept.book = await rulebook(work, subject)
                kept.epochs = dict(read_before)
            return kept.book


async def get(work: UnitOfWork, scope: str) -> Saved:
    """The policy in force in a scope; the empty one, with number 0, when none was ever saved."""
    return (await store.present(work, (scope,))).get(scope) or _none(scope)


async def history(work: UnitOfWork, scope: str, *, before: int | None = None, most: int = 50) -> list[Saved]:
    """Every policy that was in force in a scope, newest first."""
    return await store.history(work, scope, before, most)


async def save(
    work: UnitOfWork,
    scope: str,
    policy: Policy,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    confirm: bool = False,
    if_match: Collection[int] | None = None,
) -> Saved:
    """Put a policy in force in a scope: no effect is committed on the old one once this commits.

    Saving what is in force changes nothing. Raises PolicyRefused (Invalid), PolicyDeniesEverything without ``confirm``,
    PolicyChangedMeanwhile (Conflict).
    """
    check(policy)
    await store.alone(work, scope)
    was = await get(work, scope)
    if if_match is not None and was.number not in if_match:
        raise PolicyChangedMeanwhile(
            "the policy has changed since you looked",
            where=f"{scope} has ETag {was.number}",
            then="Look at it again, then repeat with its present ETag.",
        )
    if policy.hash == was.hash:
        return was
    if not confirm and denies_everything(policy):
        raise PolicyDeniesEverything(
            "this policy would deny every call, also those that only read",
            where=scope,
            then="Say confirm if you mean that. To stop agents in an emergency, order a stop.",
        )
    number = was.number + 1
    await store.add(work, scope, number, policy.hash, policy.document(), reason, by, at)
    await epochs.bump(work, scope)
    await work.publish(PolicyChanged(scope, number, policy.hash, was.hash, by))
    return await get(work, scope)


def check(policy: Policy) -> None:
    """Raises PolicyRefused (Invalid) with every fault of a policy and its place."""
    faults = list(_faults(policy))
    if faults:
        raise refused(faults)
    if isinstance(policy, OrganizationPolicy):
        cedar.read(policy.cedar)


def denies_everything(policy: Policy) -> bool:
    """Whether a policy denies reads of whatever name, and so every call there can be."""
    subject = Subject("", "", "")
    allowed: tuple[str, ...] = ()
    if isinstance(policy, OrganizationPolicy):
        book = Rulebook(subject, organization=policy)
    else:
        book, allowed = Rulebook(subject, deployment=policy), policy.allow or ()
    # Names as unlike each other as skills' names get; and what an allow list lets through must be among them.
    some = [f"{letter}{rest}" for letter in ascii_lowercase for rest in ("", "q7", "zx_some-name", "1_2_3")]
    some += [_CLASS.sub(r"\1", glob).replace("*", "q").replace("?", "q") for glob in allowed]
    read = (Proposed(name, EffectClass.S0, True, Tier.L4) for name in some)
    return all(decide(call, book).verdict is Verdict.DENY for call in read)


def _faults(policy: Policy) -> Iterator[tuple[str, str]]:
    for name, entries in policy.document().items():
        if not isinstance(entries, list):
            continue
        form, what = (_NAME, "the name") if name in ("disabled", "trusted") else (_GLOB, "a name or a glob")
        if len(entries) > MOST_ENTRIES:
            yield name, f"{len(entries)} entries, at most {MOST_ENTRIES} are allowed"
        for number, one in enumerate(entries):
            if not form.fullmatch(one):
                yield f"{name}[{number}]", f"'{one[:80]}' is not {what} of a skill"


def _none(scope: str) -> Saved:
    empty: Policy = OrganizationPolicy() if scope == ORGANIZATION else DeploymentPolicy()
    return Saved(scope, 0, empty.hash, empty.document(), "", "", None)
