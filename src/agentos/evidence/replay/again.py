"""Record runs out of the database, execute them again, and keep what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentos.control.agents import service as agents
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, OrganizationPolicy
from agentos.control.policy.rules import Rulebook
from agentos.evidence.replay import store
from agentos.evidence.replay.content import Divergence
from agentos.evidence.replay.model import RunReplayed
from agentos.evidence.replay.plans import Outcome
from agentos.evidence.replay.playback import play
from agentos.evidence.replay.recording import Recording, contract_of, given_of
from agentos.kernel.database import Database
from agentos.kernel.epochs import ORGANIZATION, deployment_scope
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import Run
from agentos.runtime.runs.ports import Parts

PAGE: Final = 1000  # rows of a journal read at once
MOST_POLICIES: Final = 20  # newest ones of a scope that are tried for the hash that a decision cites


@dataclass(frozen=True, slots=True)
class Replay:
    """What executing a run again came to."""

    run_id: str
    agent_id: str
    recorded_hash: str
    outcome: Outcome

    @property
    def replayed_hash(self) -> str:
        """The hash of what came of it now."""
        return self.outcome.content.content_hash()

    @property
    def divergence(self) -> Divergence | None:
        """Where it parted from its recording; None: it did not."""
        return self.outcome.divergence


async def record(work: UnitOfWork, parts: Parts, run_id: str) -> Recording:
    """The recording of a run that is over.

    Raises RunUnknown (NotFound), RunNotOver (Conflict), and SkillUnknown or SkillChanged where a skill that the version
    pinned is not loaded in this process.
    """
    run = await runs.get(work, run_id)
    given, output = given_of(run)
    definition = (await agents.get_version(work, run.agent_id, run.version)).definition
    skills = {ref.name: parts.registry.pinned(ref.name, ref.version, ref.digest) for ref in definition.skills}
    rows = [_entry(row) async for row in _journal(work, run_id)]
    return Recording(
        run_id=run.id,
        deployment_id=run.deployment_id,
        format=run.format,
        definition=definition,
        input=given,
        rows=tuple(rows),
        skills={name: contract_of(one) for name, one in skills.items()},
        status=run.status,
        problem=run.problem,
        output=output,
        submitted=None if run.draft_id is None else await runs.submitted_call(work, run.draft_id),
        policies=await _policies(work, run, rows),
        loaded=frozenset(skills),
    )


async def replay(work: UnitOfWork, parts: Parts, run_id: str, *, by: str, at: datetime) -> Replay:
    """Execute a run again against its journal, with nothing live, and keep what came of it. Raises as ``record``."""
    recording = await record(work, parts, run_id)
    found = Replay(run_id, recording.definition.agent_id, recording.content.content_hash(), await play(recording))
    parted = found.divergence
    values = {
        "run_id": found.run_id,
        "agent_id": found.agent_id,
        "recorded_hash": found.recorded_hash,
        "replayed_hash": found.replayed_hash,
        "step": None if parted is None else parted.step[:80],
        "field": None if parted is None else parted.field,
        "class": None if parted is None else parted.kind.value,
    }
    await store.keep(work, {**values, "by": by, "at": at})
    await work.publish(RunReplayed(found.run_id, found.agent_id, parted is not None, by))
    return found


async def standing(database: Database) -> dict[str, Any]:
    """How deterministic the platform was found to be: the last replay of any run, and how many parted.

    Before the first replay all of it is unknown. Raises DatabaseUnavailable.
    """
    last = await store.last(database)
    if not last["replayed"]:
        return dict.fromkeys(("status", "last_replay_hash", "last_recorded_hash", "replayed_at", "drift"), "unknown")
    drifted = last["drifted"]
    said: dict[str, Any] = {
        "status": "drift" if drifted else "deterministic",
        "last_replay_hash": last["replayed_hash"],
        "last_recorded_hash": last["recorded_hash"],
        "replayed_at": last["replayed_at"],
        "runs": last["replayed"],
        "drift": drifted,
    }
    if drifted:
        said["last_drift"] = {name: last[name] for name in ("step", "field", "class")}
    return said


async def drift(database: Database) -> list[dict[str, Any]]:
    """Runs whose last replay parted, by organization, agent and step; 0 where runs were replayed and none did."""
    rows = await store.counted(database)
    parted = {(row["org"], row["agent_id"]) for row in rows if row["step"]}
    return [
        row if row["step"] else {**row, "value": 0}
        for row in rows
        if row["step"] or (row["org"], row["agent_id"]) not in parted
    ]


async def _journal(work: UnitOfWork, run_id: str) -> Any:
    after = 0
    while True:
        page = await runs.steps(work, run_id, after=after, most=PAGE)
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        after = page[-1]["seq"]
        await asyncio.sleep(0)


def _entry(row: dict[str, Any]) -> Entry:
    names = ("key", "phase", "kind", "name", "status", "meta", "content")
    return Entry(**{name: row[name] for name in names}, effect=row.get("effect"))


async def _policies(work: UnitOfWork, run: Run, rows: list[Entry]) -> tuple[tuple[dict[str, Any], dict[str, Any]], ...]:
    """The policies of organization and deployment under which decisions were made, as far as no stop was in force."""
    wanted = {str(row.meta["policy"]) for row in rows if "policy" in row.meta}
    if not wanted:
        return ()
    organizations, deployments = [
        [*(dict(one.document) for one in await policies.history(work, scope, most=MOST_POLICIES)), {}]
        for scope in (ORGANIZATION, deployment_scope(run.deployment_id))
    ]
    found = []
    for own in organizations:
        policy = OrganizationPolicy.read(own)
        for its in deployments:
            if (
                hashed := Rulebook(run.subject, organization=policy, deployment=DeploymentPolicy.read(its)).hash
            ) in wanted:
                wanted.discard(hashed)
                found.append((own, its))
            if not wanted:
                return tuple(found)
    return tuple(found)
