"""One organization that asks people, a mail server and Slack, and workers that tell without waiting for the clock."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.adapters.notify import ways
from agentos.adapters.notify.settings import SlackSettings, SmtpSettings
from agentos.adapters.secrets.environment import SecretMissing
from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import Approval, ApprovalRequested, Hides
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.intake.inbox import addresses
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import Channel, Message, Thread
from agentos.kernel.canonical import canonical, digest_bytes
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Delivery, Position
from agentos.kernel.signing import Signer
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.operations.notifications import service
from agentos.operations.notifications.dispatch import Notifications
from agentos.operations.notifications.model import Notification
from tests.fakes.mail import MailServer, mail_server
from tests.fakes.slack import SIGNING, TOKEN, Slack, slack
from tests.journeys.conftest import signing_key
from tests.runtime.runs.harness import DONE, calls, harness

_ABOUT = text("UPDATE approvals SET arguments = :arguments, arguments_digest = :digest WHERE id = :id")
TEAMS = (f"T0UNIT{number}" for number in itertools.count())


class Asked:
    """An organization whose runs ask; facts are handed to the consumer as a test wants."""

    def __init__(self, database: Database, organization: OrgId, mail: MailServer, slack: Slack) -> None:
        self.database, self.organization, self.mail, self.slack = database, organization, mail, slack
        self.doors, self.meter = Doors(database), Meter()
        self.runs = harness(database, organization)
        self.secrets = {"slack-token": TOKEN, "slack-signing": SIGNING}
        self.signer = Signer.load(signing_key())
        self.masked: Hides = lambda _: False
        self.notifications = self.worker()

    def worker(self, **given: Any) -> Notifications:
        """Another worker over the same database."""
        mail = SmtpSettings(host="127.0.0.1", port=self.mail.port, tls="none", sender="agentos@example.org", **given)
        found = ways(mail, SlackSettings(api=self.slack.url), self._secret)
        address = "https://agents.example.org/"
        return Notifications(self.doors, found, self.meter, self.signer, address=address, hiding=self._hiding)

    async def _hiding(self, _work: UnitOfWork) -> Hides:
        return self.masked

    def _secret(self, name: str) -> str:
        if name not in self.secrets:
            raise SecretMissing(f"there is no secret '{name}'")
        return self.secrets[name]

    async def person(self, handle: str, role: Role = Role.APPROVER, **known: str) -> None:
        async with self.doors.open(self.organization) as work:
            await identity.add_person(work, handle, role, by="tests")
            given = {Channel(name): address for name, address in known.items()}
            await addresses.change(work, handle, given, by="tests")

    async def connect(self, *, shows: bool = True) -> None:
        async with self.doors.open(self.organization) as work:
            await addresses.connect(
                work,
                team_id=self.slack.team,
                signing_secret="secret://slack-signing",
                token="secret://slack-token",
                shows=shows,
                by="tests",
            )

    async def ask(self, arguments: Any = None, *, tell: bool = True) -> Approval:
        """A run of ``author`` that asks, about other arguments than its own where given; told to the consumer."""
        await self.runs.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
        run_id = await self.runs.start()
        await self.runs.finish(run_id)
        async with self.doors.open(self.organization) as work:
            (found,) = await approvals.listed(work, status="", run_id=run_id, after="", most=2)
            if arguments is not None:
                written = canonical(arguments)
                values = {"id": found.id, "arguments": written, "digest": digest_bytes(written)}
                await work.run(_ABOUT, values)
                found = await approvals.get(work, found.id)
        if tell:
            await self.tell(ApprovalRequested(found.run_id, found.id, found.skill, found.arguments_digest))
        return found

    async def answer(self, asked: Approval, handle: str, *, approved: bool = True) -> None:
        async with self.doors.open(self.organization) as work:
            person = await identity.person(work, handle)
            await approvals.answer(
                work, asked.id, person_id=person.id, handle=handle, approved=approved, note="", at=now()
            )
        await self.tell(*work.facts)

    async def tell(self, *facts: Fact, again: int = 1) -> None:
        """Hand facts to the consumer, each ``again`` times."""
        handle = self.notifications.consumer().handle
        for fact in facts:
            position = Position(uuid.uuid4().int % 10**15, 1)
            for _ in range(again):
                await handle([Delivery(position, self.organization, fact, now())])

    async def turn(self, after: timedelta = timedelta(), *, worker: Notifications | None = None) -> None:
        """Send what is due so long from now."""
        await (worker or self.notifications).turn(now() + after)

    async def messages(self, state: str = "") -> list[Notification]:
        async with self.doors.open(self.organization) as work:
            return await service.listed(work, state=state, about="", after="", most=500)

    async def the_message(self) -> Notification:
        (found,) = await self.messages()
        return found

    async def thread(self, asked: Approval) -> tuple[Thread, list[Message]]:
        async with self.doors.open(self.organization) as work:
            found = await inbox.about(work, asked.id)
            return found, await inbox.messages(work, found.id, after="", most=500)

    async def facts(self, name: str) -> list[dict[str, Any]]:
        async with self.doors.open(self.organization) as work:
            rows = await work.all(text("SELECT body FROM outbox WHERE name = :name ORDER BY seq"), {"name": name})
        return [row.body for row in rows]


@pytest.fixture
async def asked(database: Database, organization: OrgId) -> AsyncIterator[Asked]:
    async with mail_server() as mail, slack(next(TEAMS)) as one:
        found = Asked(database, organization, mail, one)
        yield found
        async with found.doors.open(organization) as work:  # what is still owed would come due in other tests
            await work.run(text("UPDATE notifications SET state = 'moot', ended_at = now() WHERE state = 'pending'"))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)
