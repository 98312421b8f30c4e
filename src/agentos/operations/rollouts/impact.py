"""What a change would leave behind: which runs stay on which version, and which of them cannot go on, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment
from agentos.control.policy.model import Tier
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import store
from agentos.runtime.runs.model import FORMAT, Reason, RunStatus

# What runs wait for that have an effect to make, which a retired deployment never lets out.
TO_ACT: Final = frozenset({Reason.APPROVAL, Reason.DEPLOYMENT_PAUSED})
OVER: Final = "a retired deployment lets no effect out"


class Change(StrEnum):
    """What is about to be done to a deployment."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    CANARY = "canary"
    PAUSE = "pause"
    RESUME = "resume"
    RETIRE = "retire"
    TIER = "tier"


@dataclass(frozen=True, slots=True)
class Staying:
    """The open runs of one version, which stay on it."""

    version: Version
    parked: int  # they wait for something
    moving: int
    waits: dict[str, int]  # parked runs by what they wait for
    stuck: int  # of all of them, those that cannot go on
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change leaves open."""

    change: Change
    deployment: Deployment
    staying: tuple[Staying, ...]
    tier: Tier | None = None  # that is to be in force

    @property
    def words(self) -> list[str]:
        """The same in sentences, first those that somebody has to act on."""
        found = []
        for one in sorted(self.staying, key=lambda each: (-each.stuck, each.version.number)):
            on = f"version {one.version.number}"
            if one.parked:
                found.append(f"{_runs(one.parked, 'parked')} {_stay(one.parked)} on {on}.")
            if one.moving:
                found.append(f"{_runs(one.moving, 'moving')} {_stay(one.moving)} on {on}{self._then(one)}.")
            if one.stuck:
                found.append(f"{one.stuck} of those on {on} cannot resume, because {'; '.join(one.because)}.")
        if self.change is Change.TIER and self.tier is not None and found:
            found.append(
                f"From their next effect on they act under {self.tier.name}, none above its version's highest."
            )
        return found or ["No run is open."]

    def _then(self, one: Staying) -> str:
        if self.change not in (Change.PAUSE, Change.RETIRE):
            return ""
        stop = "and stops before its next effect" if one.moving == 1 else "and stop before their next effects"
        return f" {stop}, for good" if self.change is Change.RETIRE else f" {stop}"

    def document(self) -> dict[str, Any]:
        """The impact as it is shown."""
        return {
            "change": self.change.value,
            "said": self.words,
            "open_runs": sum(one.parked + one.moving for one in self.staying),
            "cannot_resume": sum(one.stuck for one in self.staying),
            "versions": [
                {
                    "version": one.version.hash,
                    "version_number": one.version.number,
                    "parked": one.parked,
                    "moving": one.moving,
                    "waits": one.waits,
                    "cannot_resume": one.stuck,
                    "because": list(one.because),
                }
                for one in self.staying
            ],
        }


async def impact(
    work: UnitOfWork, skills: SkillCatalogue, deployment_id: str, change: Change, *, tier: Tier | None = None
) -> Impact:
    """What a change would leave open now; ``tier``: that is to be in force. Raises DeploymentUnknown (NotFound)."""
    found = await deployments.get(work, deployment_id)
    by_version: dict[str, list[Any]] = {}
    for row in await store.open_runs(work, found.id):
        by_version.setdefault(row.version, []).append(row)
    staying = []
    for hashed, rows in by_version.items():
        version = await agents.get_version(work, found.agent_id, hashed)
        staying.append(_staying(version, rows, change, await _missing(version, skills)))
    return Impact(change, found, tuple(sorted(staying, key=lambda one: one.version.number)), tier)


def _staying(version: Version, rows: Iterable[Any], change: Change, missing: str) -> Staying:
    parked, moving, stuck, waits, because = 0, 0, 0, dict[str, int](), dict[str, None]()
    for row in rows:
        if row.reason or row.status in (RunStatus.WAITING_APPROVAL, RunStatus.PAUSED):
            reason = row.reason or row.status
            parked, waits[reason] = parked + row.runs, waits.get(reason, 0) + row.runs
        else:
            moving += row.runs
        why = missing or _newer(row.format) or (OVER if change is Change.RETIRE and row.reason in TO_ACT else "")
        if why:
            stuck, because = stuck + row.runs, because | {why: None}
    return Staying(version, parked, moving, waits, stuck, tuple(because))


def _newer(format: int) -> str:
    return f"their journals are of format {format}, and this release reads {FORMAT}" if format > FORMAT else ""


async def _missing(version: Version, skills: SkillCatalogue) -> str:
    """Why runs of a version find a skill missing; empty when they do not."""
    try:
        await agents.check_skills(version, skills)
    except (NotFound, Conflict) as error:
        return error.what
    return ""


def _runs(count: int, what: str) -> str:
    return f"{count} {what} run" if count == 1 else f"{count} {what} runs"


def _stay(count: int) -> str:
    return "stays" if count == 1 else "stay"
