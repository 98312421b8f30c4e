"""Runs without Temporal: one organization, one agent, scripted answers, and skills that count what they did.

A segment is executed directly, as often and in whatever state of disrepair a test wants. Temporal's part is in
tests/journeys/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.secrets.environment import environment_secret
from agentos.apps.parts import Catalogue
from agentos.control.agents import manifest
from agentos.control.approvals import service as approvals
from agentos.control.deployments import applying
from agentos.control.deployments import service as deployments
from agentos.control.policy.model import EffectClass
from agentos.kernel import ids
from agentos.kernel.canonical import digest
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId, RunId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs import admission, service
from agentos.runtime.runs.loop import run_segment
from agentos.runtime.runs.model import Run
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.settings import RunSettings
from agentos.runtime.runs.workflow import SegmentEnd
from agentos.runtime.skills import Lookup, Registry, Retry, Skill, SkillContext, declaring
from agentos.runtime.skills.model import Reversibility

Act = Callable[[dict[str, Any]], Any]


@dataclass
class World:
    """What the skills of a test did, by idempotency key, and what they are told to do next."""

    done: list[tuple[str, str]] = field(default_factory=list)  # (skill, key) in the order of their calls
    acts: dict[str, list[Act]] = field(default_factory=dict)  # by skill: what the next calls do instead
    receiver: dict[str, Lookup] = field(default_factory=dict)  # by key: what the receiver says when asked

    def count(self, name: str) -> int:
        return sum(1 for skill, _key in self.done if skill == name)

    def next(self, name: str, *acts: Act) -> None:
        self.acts.setdefault(name, []).extend(acts)


def make_skill(
    world: World,
    name: str,
    effect: str,
    *,
    idempotent: bool = False,
    lookup: bool = False,
    timeout: timedelta = timedelta(milliseconds=300),
    attempts: int = 3,
) -> Skill:
    """A skill that takes ``n`` and gives back ``{"n": n}`` unless the world says otherwise."""

    async def call(context: SkillContext, n: int = 0) -> dict[str, Any]:
        world.done.append((name, context.key))
        acts = world.acts.get(name, [])
        if acts:
            said = acts.pop(0)({"n": n, "key": context.key})
            return await said if asyncio.iscoroutine(said) else said
        return {"n": n}

    async def ask(context: SkillContext, _arguments: dict[str, Any]) -> Lookup:
        return world.receiver.get(context.key, Lookup(None))

    call.__annotations__ = {"context": SkillContext, "n": int, "return": dict[str, Any]}
    retry = Retry(attempts, timedelta(milliseconds=1), 1.0, timedelta(milliseconds=5))
    return declaring.build(
        declaring.Declared(
            call,
            name,
            "1",
            EffectClass[effect],
            Reversibility.REVERSIBLE,
            idempotent,
            f"{round(timeout.total_seconds() * 1000)}ms",
            retry,
            ask if lookup else None,
        )
    )


@dataclass
class Harness:
    """One organization with agents whose runs are executed segment by segment."""

    doors: Doors
    organization: OrgId
    world: World
    parts: Parts
    models: Providers

    async def agent(
        self,
        script: Sequence[dict[str, Any]],
        skills: Sequence[str] = ("look", "note", "send"),
        *,
        tier: str = "L4",
        name: str = "tester",
        **spec: Any,
    ) -> str:
        """Apply and deploy an agent whose stub follows this script; its deployment's id."""
        document = {
            "apiVersion": "agentos/v1",
            "kind": "Agent",
            "metadata": {"name": name, "category": "tests", "owner": "testers"},
            "spec": {
                "instructions": "Follow the script.",
                "model": {"provider": "stub", "script": list(script)},
                "skills": [{"name": one, "version": "1"} for one in skills],
                "tier": tier,
                **spec,
            },
        }
        catalogue = Catalogue(self.parts.registry)
        async with self.doors.open(self.organization) as work:
            (done,) = await applying.apply(
                work, manifest.read_documents([document]), catalogue, self.models, by="author", at=now()
            )
            deployment, revision = done.ensured.deployment, done.ensured.revision
            if revision is not None and revision.status == "draft":
                version = done.applied.version.hash
                await deployments.promote(work, deployment.id, version, catalogue, by="author", at=now())
        return deployment.id

    async def start(self, given: Any = None, *, name: str = "tester") -> RunId:
        """Admit a run."""
        run_id = RunId(ids.new("run"))
        asked = admission.Request(name, "production", given or {"task_description": "go"}, "author", "req-1")
        async with self.doors.open(self.organization) as work:
            await admission.admit(work, self.parts, asked, run_id)
        return run_id

    async def segment(self, run_id: RunId, number: int = 1, **more: Any) -> SegmentEnd:
        """Execute one segment, as a worker would."""
        return await run_segment(self.parts, self.organization, run_id, number, inline=False, **more)

    async def finish(self, run_id: RunId, number: int = 1, most: int = 20) -> Run:
        """Execute segments until the run is over or waits for a person; timers are skipped."""
        for _ in range(most):
            end = await self.segment(run_id, number)
            number = end.segment + 1
            run = await self.run(run_id)
            if run.status.terminal or (end.state == "wait" and end.seconds is None):
                return run
            if end.state == "wait" and run.waiting and run.waiting["reason"] == "approval":
                return run
            if end.state == "wait" and end.seconds is not None:
                await asyncio.sleep(min(end.seconds, 1.0))
        return await self.run(run_id)

    async def run(self, run_id: RunId) -> Run:
        async with self.doors.open(self.organization) as work:
            return await service.get(work, run_id)

    async def steps(self, run_id: RunId) -> list[dict[str, Any]]:
        async with self.doors.open(self.organization) as work:
            return await service.steps(work, run_id)


def harness(database: Database, organization: OrgId, *, roots: tuple[Path, ...] = ()) -> Harness:
    """A harness with three skills: ``look`` reads, ``note`` writes and is idempotent, ``send`` writes and is not."""
    world, registry = World(), Registry()
    registry.add(make_skill(world, "look", "S0", timeout=timedelta(seconds=5)))  # what tests do in it waits its turn
    registry.add(make_skill(world, "note", "S1", idempotent=True))
    registry.add(make_skill(world, "send", "S1"))
    registry.add(make_skill(world, "ring", "S1", lookup=True))
    registry.add(make_skill(world, "move", "S2", idempotent=True))
    registry.add(make_skill(world, "pay", "S3", idempotent=True))
    registry.add(make_skill(world, "wipe", "S4", idempotent=True))
    doors = Doors(database)
    models = Providers(ClaudeSettings.read(), OpenAISettings.read(), environment_secret)
    settings = RunSettings(send_window_seconds=0.2)
    parts = Parts(doors, registry, models, settings, Meter(), lambda name: "", roots, (), False, {})
    return Harness(doors, organization, world, parts, models)


def calls(*wanted: tuple[str, int]) -> dict[str, Any]:
    """A script's step that calls these skills with these numbers."""
    return {"calls": [{"skill": name, "arguments": {"n": n}} for name, n in wanted]}


class Crash(BaseException):
    """The worker is gone: nothing after this point happens."""


def crash(_given: dict[str, Any]) -> Any:
    raise Crash


@contextmanager
def losing(held: Harness, monkeypatch: pytest.MonkeyPatch, statement: str) -> Iterator[None]:
    """Within it the worker is lost just before this statement is committed."""
    real = held.parts.database.group.row

    async def lost(said: str, *arguments: Any) -> Any:
        if statement in said:
            raise Crash
        return await real(said, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(held.parts.database.group, "row", lost)
        yield


async def crashed(held: Harness, run_id: RunId, number: int) -> None:
    with pytest.raises(Crash):
        await held.segment(run_id, number)


async def answered(held: Harness, run_id: RunId, *, approved: bool, handle: str = "approver") -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=10)
        await approvals.answer(
            work, asked.id, person_id=f"person_{handle}", handle=handle, approved=approved, note="", at=now()
        )


DONE = {"text": "done"}

__all__ = [
    "DONE",
    "Crash",
    "Harness",
    "World",
    "answered",
    "calls",
    "crash",
    "crashed",
    "digest",
    "harness",
    "losing",
    "make_skill",
]
