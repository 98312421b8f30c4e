"""One organization with people, a deployment and a run whose calls people are asked about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agentos.apps.bootstrap import give_key
from agentos.control.approvals import service
from agentos.control.approvals.model import Approval, Channel, Question
from agentos.control.policy.model import EffectClass
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.kernel.canonical import canonical
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors
from tests.runtime.runs.harness import DONE, harness

NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)
PEOPLE = {
    "author": Role.INCIDENT_COMMANDER,  # may answer, but started it
    "ann": Role.APPROVER,
    "bob": Role.APPROVER,
    "carl": Role.APPROVER,
    "ida": Role.INCIDENT_COMMANDER,
    "root": Role.ADMIN,
    "otto": Role.OPERATOR,
}


@dataclass
class Asking:
    """Asks and answers, each in a unit of work of its own; the facts of the last one are kept."""

    doors: Doors
    organization: OrgId
    question: Question
    facts: list[Fact] = field(default_factory=list)

    async def ask(self, at: datetime = NOON, longest: timedelta = service.LONGEST, **more: Any) -> Approval:
        """The approval that stands for the question, with what is changed about it."""
        async with self.doors.open(self.organization) as work:
            found, _ = await service.wanted(work, replace(self.question, **more), at=at, longest=longest)
        self.facts = work.facts
        return found

    async def answer(
        self, approval_id: str, handle: str, approved: bool = True, at: datetime = NOON, note: str = "", **more: Any
    ) -> Approval:
        """An answer of a person, in a channel."""
        async with self.doors.open(self.organization) as work:
            found = await service.answer_as(
                work,
                approval_id,
                handle=handle,
                approved=approved,
                note=note,
                at=at,
                channel=more.pop("channel", Channel.API),
                **more,
            )
        self.facts = work.facts
        return found

    async def advance(self, approval_id: str, at: datetime) -> Approval:
        """The clock looks at this time."""
        async with self.doors.open(self.organization) as work:
            await service.advance(work, approval_id, at=at)
            found = await service.get(work, approval_id)
        self.facts = work.facts
        return found

    async def reroute(self, by: str = "ida", at: datetime = NOON, **more: Any) -> list[Approval]:
        """Somebody hands what waits to others."""
        async with self.doors.open(self.organization) as work:
            found = await service.reroute(work, by=by, at=at, **more)
        self.facts = work.facts
        return found

    async def route(self, document: dict[str, Any]) -> None:
        """Say whom to ask from now on."""
        async with self.doors.open(self.organization) as work:
            await service.set_routing(work, routing(document), by="root", at=NOON)

    async def get(self, approval_id: str) -> Approval:
        """The approval as it is."""
        async with self.doors.open(self.organization) as work:
            return await service.get(work, approval_id)

    @property
    def told(self) -> list[str]:
        """The names of the last facts."""
        return [fact.name for fact in self.facts]


def routing(document: dict[str, Any]) -> Any:
    """A routing as the API takes it."""
    from agentos.control.approvals.routes import WantedRouting
    from agentos.control.approvals.routing import Routing

    return Routing.read(WantedRouting.model_validate(document).model_dump(mode="json"))


async def asking(database: Database, organization: OrgId) -> Asking:
    """An organization with people and a run."""
    held = harness(database, organization)
    deployment = await held.agent([DONE], [])
    run = await held.run(await held.start())
    async with held.doors.open(organization) as work:
        for handle, role in PEOPLE.items():
            if await identity.seen(work, handle) is None:
                await give_key(work, handle, role)
    question = Question(
        run_id=run.id,
        step="t0.c0",
        deployment_id=deployment,
        agent_id="tester",
        category="tests",
        version=run.version,
        requested_by="author",
        starters=("author",),
        skill="pay",
        skill_version="1",
        skill_digest="sha256:" + "0" * 64,
        reversibility="reversible",
        effect=EffectClass.S3,
        arguments=canonical({"n": 5}),
        rule="tier_matrix",
        needed=1,
        policy_hash="sha256:" + "1" * 64,
    )
    return Asking(held.doors, organization, question)
