"""What is over is forgotten after its time, and what is going on never is."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from agentos.apps.bootstrap import give_key
from agentos.apps.worker.__main__ import KEPT
from agentos.evidence.replay import what_if
from agentos.intake.identity import sessions
from agentos.intake.identity.model import Role
from agentos.intake.requests import service as requests
from agentos.intake.triggers import service as triggers
from agentos.intake.triggers.model import Event, Pattern, State, Wanted
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import BATCH, Retention, forget
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.gateway import asking

LITTLE = timedelta(minutes=5)


async def test_a_firing_is_forgotten_when_its_run_is_over_and_not_before(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    async with doors.open(organization) as work:
        made, _ = await triggers.add(work, Wanted("on_push", "tester", "production", Pattern()), by="author", at=now())
        for said in ("open", "over"):
            await triggers.fire(work, made, Event(said, "/tests", "pushed"), dedup=said, due_at=now(), request_id="req")
        over = (await triggers.firings(work, made.id, state="", before="", most=5))[0]
        await triggers.refused(work, over.id, "input_refused")
    assert await forget(database, triggers.KEPT, at=now() + triggers.KEPT.kept - LITTLE) == 0
    assert await forget(database, triggers.KEPT, at=now() + triggers.KEPT.kept + LITTLE) > 0
    async with doors.open(organization) as work:
        (left,) = await triggers.firings(work, made.id, state="", before="", most=5)
    assert left.state is State.FIRED


async def test_a_session_is_told_as_expired_before_it_is_forgotten(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    began = now() - sessions.LASTS - LITTLE
    async with doors.open(organization) as work:
        await give_key(work, "ada", Role.VIEWER)
        await sessions.set_password(work, "ada", "a long enough sentence", by="admin", at=began)
    opened = await sessions.sign_in(doors, organization, "ada", "a long enough sentence", at=began)
    assert await forget(database, sessions.KEPT, at=now()) == 0
    assert (await sessions.shown_by_session(database, opened.secret)).refused == "expired_session"
    assert await forget(database, sessions.KEPT, at=now() + sessions.KEPT.kept) > 0
    assert (await sessions.shown_by_session(database, opened.secret)).refused == "unknown_session"


async def test_a_requests_key_is_as_new_after_its_week(doors: Doors, database: Database, organization: OrgId) -> None:
    for at, first in (
        (now(), True),
        (now() + requests.KEPT.kept - LITTLE, False),
        (now() + requests.KEPT.kept + LITTLE, True),
    ):
        await forget(database, requests.KEPT, at=at)
        async with doors.open(organization) as work:
            assert (await requests.once(work, "key", "digest", {"n": 1}))[1] is first


async def test_more_than_a_batch_is_forgotten_in_one_go(doors: Doors, database: Database, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        await work.run(
            text(
                "INSERT INTO requests (org, key, body_digest, answer) "
                "SELECT :org, n::text, '', '{}' FROM generate_series(1, :n) AS n"
            ),
            {"org": organization, "n": BATCH + 1},
        )
    assert await forget(database, requests.KEPT, at=now() + requests.KEPT.kept + LITTLE) > BATCH
    async with doors.open(organization) as work:
        assert await work.all(text("SELECT key FROM requests")) == []


def test_each_has_a_function_of_its_own() -> None:
    assert len({one.function for one in KEPT}) == len(KEPT) > 3
    reserved = (asking.KEPT, what_if.BILLS_KEPT)  # by a process that was lost: nobody's to read
    read = [one for one in KEPT if one not in reserved]
    assert all(isinstance(one, Retention) and one.kept >= timedelta(days=7) for one in read)
