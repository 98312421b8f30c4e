"""An agent whose second version fails on hard inputs, and what it takes to roll it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agentos.adapters.llm.stub import behaviour
from agentos.apps.parts import Catalogue
from agentos.control.agents import manifest
from agentos.control.deployments import applying
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Revision
from agentos.evidence.quality import scores
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Comparator, Gate, Scope, Severity
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.facts import Fact
from agentos.kernel.ids import RunId
from agentos.operations.rollouts import service, trials, watch
from agentos.operations.rollouts.judging import Order
from agentos.operations.rollouts.model import UNTRIED, Allowance, Rollback, Trials
from agentos.operations.rollouts.service import Done
from agentos.operations.rollouts.settings import RolloutSettings
from agentos.runtime.inference import Answer, Question, Stop
from agentos.runtime.runs import admission
from agentos.runtime.runs.model import Run
from tests.runtime.runs.harness import Harness

SETTINGS = RolloutSettings(canary_samples=5, validation_samples=3)


@behaviour("rollouts_good")
def good(_question: Question) -> str:
    """Be done with whatever is asked."""
    return "done"


@behaviour("rollouts_bad")
def bad(question: Question) -> str | Answer:
    """Be done with what is easy; of what is hard, say only the beginning."""
    if "hard" in question.messages[0].text:
        return Answer("do", "stub", "rollouts_bad", Stop.LIMIT)
    return "done"


def document(name: str, *, category: str = "tests", agent: str = "tester", **spec: Any) -> dict[str, Any]:
    """A manifest of the agent ``tester`` whose stub behaves so."""
    return {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": agent, "category": category, "owner": "testers"},
        "spec": {
            "instructions": "Be done.",
            "model": {"provider": "stub", "behaviour": name},
            "skills": [],
            "tier": "L4",
            **spec,
        },
    }


@dataclass
class Desk:
    """One deployment of the agent, with version 1 serving and version 2, which is bad, as a draft."""

    held: Harness
    deployment: str = ""
    facts: list[Fact] = field(default_factory=list)

    @property
    def skills(self) -> Catalogue:
        return Catalogue(self.held.parts.registry)

    async def apply(self, name: str, **spec: Any) -> str:
        """A version's hash."""
        async with self.held.doors.open(self.held.organization) as work:
            documents = manifest.read_documents([document(name, **spec)])
            (done,) = await applying.apply(work, documents, self.skills, self.held.models, by="author", at=now())
        self.deployment = done.ensured.deployment.id
        return str(done.applied.version.hash)

    async def order(self, version: str, *, at: datetime | None = None, trials: Trials = UNTRIED, **more: Any) -> Done:
        """Promote a version, or make it a canary."""
        async with self.held.doors.open(self.held.organization) as work:
            order = Order(version, trials=trials, **more)
            done = await service.promote(work, self.deployment, order, self.skills, by="author", at=at or now())
        self.facts += work.facts
        return done

    async def rollback(self, named: str | None = None, *, at: datetime | None = None, **more: Any) -> Done:
        async with self.held.doors.open(self.held.organization) as work:
            how: dict[str, Any] = {"by": "author", "at": at or now(), **more}
            done = await service.rollback(work, self.deployment, named, self.skills, **how)
        self.facts += work.facts
        return done

    async def watch(self, at: datetime | None = None) -> tuple[str, ...]:
        """Look once at the canary, as a worker does; why it was rolled back."""
        async with self.held.doors.open(self.held.organization) as work:
            found = await watch.watch(work, self.deployment, self.skills, SETTINGS, at=at or now())
        self.facts += work.facts
        return found

    async def validate(self, at: datetime | None = None) -> tuple[Rollback, ...]:
        """Look once at the rollbacks, as a worker does; those whose checks had the last word."""
        async with self.held.doors.open(self.held.organization) as work:
            found = await watch.validate(work, self.deployment, SETTINGS, at=at or now())
        self.facts += work.facts
        return found

    async def tried(self, version: str, runs: int = 0, *, percent: int | None = None, **allowed: Any) -> Trials:
        """What recorded runs would have come to under a version, as an order and gates ask for it."""
        allowance, order = Allowance(runs, **allowed) if runs else None, Order(version, percent=percent)
        async with self.held.doors.open(self.held.organization) as work:
            how: dict[str, Any] = {"live": False, "at": now()}
            trial = await trials.prepare(work, self.held.parts, self.deployment, order, allowance, **how)
        return UNTRIED if trial is None else await trials.execute(trial)

    async def start(self, task: str = "easy", key: str = "") -> RunId:
        """Admit a run."""
        run_id = RunId(ids.new("run"))
        asked = admission.Request(
            "tester", "production", {"task_description": task}, "author", "req-1", assignment_key=key
        )
        async with self.held.doors.open(self.held.organization) as work:
            await admission.admit(work, self.held.parts, asked, run_id)
        return run_id

    async def ran(self, tasks: Sequence[str], key: str = "") -> list[Run]:
        """Runs that are over and scored."""
        found = []
        for task in tasks:
            run = await self.held.finish(await self.start(task, key))
            async with self.held.doors.open(self.held.organization) as work:
                await scores.score(work, run.id, at=now())
            found.append(run)
        return found

    async def gate(self, **given: Any) -> Gate:
        said: dict[str, Any] = {
            "scope": Scope.ORGANIZATION,
            "target": "",
            "metric": "success_rate",
            "comparator": Comparator.AT_LEAST,
            "threshold": 0.9,
            "lookback": timedelta(days=1),
            "samples": 3,
            "severity": Severity.BLOCKER,
        }
        async with self.held.doors.open(self.held.organization) as work:
            return await quality.add_gate(work, **said | given, by="operator", at=now())

    async def now_serving(self) -> Deployment:
        async with self.held.doors.open(self.held.organization) as work:
            return await deployments.get(work, self.deployment)

    async def history(self) -> list[Revision]:
        async with self.held.doors.open(self.held.organization) as work:
            return await deployments.history(work, self.deployment)

    async def key_of(self, *, canary: bool) -> str:
        """A key whose runs the canary takes, or does not."""
        found = (await self.now_serving()).canary
        assert found is not None
        return next(key for key in map(str, range(10_000)) if found.takes(self.deployment, key) is canary)


def of(facts: Sequence[Fact], kind: type[Fact]) -> list[Any]:
    """The facts of a kind."""
    return [one for one in facts if isinstance(one, kind)]
