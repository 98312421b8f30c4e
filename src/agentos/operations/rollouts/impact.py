"""What a change would leave behind: which runs stay on which version, and which of them cannot go on, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import store
from agentos.runtime.runs.model import FORMAT, RunStatus


class Change(StrEnum):
    """What is about to be done to a deployment."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    CANARY = "canary"
    PAUSE = "pause"
    RESUME = "resume"


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

    @property
    def words(self) -> list[str]:
        """The same in sentences, first those that somebody has to act on."""
        found = []
        for one in sorted(self.staying, key=lambda each: (-each.stuck, each.version.number)):
            on = f"version {one.version.number}"
            if one.parked:
                found.append(f"{_runs(one.parked, 'parked')} {_stay(one.parked)} on {on}.")
            if one.moving:
                stop = self.change is Change.PAUSE
                then = "and stops before its next effect" if one.moving == 1 else "and stop before their next effects"
                found.append(f"{_runs(one.moving, 'moving')} {_stay(one.moving)} on {on}{f' {then}' if stop else ''}.")
            if one.stuck:
                found.append(f"{one.stuck} of those on {on} cannot resume, because {'; '.join(one.because)}.")
        return found or ["No run is open."]

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


async def impact(work: UnitOfWork, skills: SkillCatalogue, deployment_id: str, change: Change) -> Impact:
    """What a change would leave open now. Raises DeploymentUnknown (NotFound)."""
    found = await deployments.get(work, deployment_id)
    by_version: dict[str, list[Any]] = {}
    for row in await store.open_runs(work, found.id):
        by_version.setdefault(row.version, []).append(row)
    staying = []
    for hashed, rows in by_version.items():
        version = await agents.get_version(work, found.agent_id, hashed)
        staying.append(_staying(version, rows, await _missing(version, skills)))
    return Impact(change, found, tuple(sorted(staying, key=lambda one: one.version.number)))


def _staying(version: Version, rows: Iterable[Any], missing: str) -> Staying:
    parked, moving, stuck, waits, because = 0, 0, 0, dict[str, int](), dict[str, None]()
    for row in rows:
        if row.reason or row.status in (RunStatus.WAITING_APPROVAL, RunStatus.PAUSED):
            reason = row.reason or row.status
            parked, waits[reason] = parked + row.runs, waits.get(reason, 0) + row.runs
        else:
            moving += row.runs
        newer = f"their journals are of format {row.format}, and this release reads {FORMAT}"
        why = missing or (newer if row.format > FORMAT else "")
        if why:
            stuck, because = stuck + row.runs, because | {why: None}
    return Staying(version, parked, moving, waits, stuck, tuple(because))


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
