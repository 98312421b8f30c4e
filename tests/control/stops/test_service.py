"""Stops as they are kept: set, set again, lifted, by document; with a model beside them that says what must hold."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from agentos.control.stops import service
from agentos.control.stops.model import (
    SCOPES,
    Denylist,
    DenylistChanged,
    InForce,
    Stop,
    StopKind,
    StopScope,
    StopTargetUnknown,
    StopUnknown,
    Subject,
    Wanted,
)
from agentos.intake.identity import service as identity
from agentos.kernel import epochs
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs.model import Run
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def facts(doors: Doors, organization: OrgId) -> list[str]:
    async with doors.open(organization) as work:
        rows = await work.all(text("SELECT name FROM outbox WHERE name LIKE 'Stop%' ORDER BY seq"))
    return [row.name for row in rows]


async def test_ordering_it_again_returns_the_first_also_at_the_same_moment(held: Harness) -> None:
    async def order() -> Stop:
        async with held.doors.open(held.organization) as work:
            return await service.order(work, Wanted(StopKind.KILL, StopScope.ORGANIZATION), by="a")

    found = await asyncio.gather(*(order() for _ in range(5)))
    assert len({one.id for one in found}) == 1
    assert await facts(held.doors, held.organization) == ["StopOrdered"]


async def test_lifting_it_again_changes_nothing_and_ordering_after_that_makes_another(held: Harness) -> None:
    wanted = Wanted(StopKind.PAUSE, StopScope.ORGANIZATION)
    async with held.doors.open(held.organization) as work:
        first = await service.order(work, wanted, by="a")
    lifted = []
    for who in ("b", "c"):
        async with held.doors.open(held.organization) as work:
            lifted.append(await service.lift(work, first.id, by=who, reason="over"))
    assert [one.lifted_by for one in lifted] == ["b", "b"]
    async with held.doors.open(held.organization) as work:
        assert (await service.order(work, wanted, by="a")).id != first.id
    assert await facts(held.doors, held.organization) == ["StopOrdered", "StopLifted", "StopOrdered"]


@pytest.mark.parametrize("scope", [StopScope.DEPLOYMENT, StopScope.CATEGORY, StopScope.AGENT])
async def test_what_is_not_there_cannot_be_stopped(held: Harness, scope: StopScope) -> None:
    with pytest.raises(StopTargetUnknown) as caught:
        async with held.doors.open(held.organization) as work:
            await service.order(work, Wanted(StopKind.KILL, scope, "nothing"), by="a")
    assert caught.value.then


async def test_the_denylist_is_replaced_as_one_document_and_not_behind_anybodys_back(held: Harness) -> None:
    await held.agent([DONE])

    async def put(seen: int | None, **entries: tuple[str, ...]) -> Denylist:
        wanted = {"skills": (), "domains": (), "agents": (), "providers": ()} | entries
        async with held.doors.open(held.organization) as work:
            return await service.replace_denylist(
                work, Denylist(**wanted, revision=0), seen=seen, reason="", confirm="", by="a"
            )

    first = await put(None, skills=("pay", "note"), agents=("tester",))
    second = await put(first.revision, skills=("note",), domains=("example.com",))
    assert (second.skills, second.domains, second.agents) == (("note",), ("example.com",), ())
    with pytest.raises(DenylistChanged):
        await put(first.revision)
    async with held.doors.open(held.organization) as work:
        assert await service.denylist(work) == second
    with pytest.raises(StopTargetUnknown):
        await put(None, agents=("nobody",))
    async with held.doors.open(held.organization) as work:
        assert (await service.denylist(work)).skills == ("note",), "all or nothing"


async def test_a_stop_of_everybody_is_written_by_the_named_functions_alone(held: Harness) -> None:
    for statement in (
        "INSERT INTO stops (org, id, kind, scope, target, reason, ordered_by) "
        "VALUES ('*', 'stop_x', 'kill', 'global', '', '', 'intruder')",
        "SELECT everything_stopped('stop_x', 'kill', '', 'intruder', 'o', 'F', '{}')",
        "DELETE FROM stops",
    ):
        with pytest.raises(ProgrammingError, match=r"row-level security|permission denied"):
            async with held.doors.open(held.organization) as work:
                await work.run(text(statement))
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with held.doors.database.connection("agentos_system") as connection:
            await connection.execute(text("SELECT * FROM stops"))


async def test_another_organizations_stops_are_not_there(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        made = await service.order(work, Wanted(StopKind.KILL, StopScope.ORGANIZATION), by="a")
    async with held.doors.open(OrgId(held.organization + "x")) as work:
        with pytest.raises(StopUnknown):
            await service.lift(work, made.id, by="a")
        assert await service.in_force(work, Subject("d", "a", "c")) == InForce()


WIDE = [StopScope.ORGANIZATION, StopScope.CATEGORY, StopScope.DEPLOYMENT, StopScope.AGENT]


class StopsAgainstAModel(RuleBasedStateMachine):
    """Orders, lifts, runs, crashes and yeses in any order; the model is the set of stops in force."""

    make: Callable[[], Harness]
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.held = self.make()
        self.deployment = self.wait(self.held.agent([calls(("note", 1), ("note", 2), ("pay", 3)), DONE]))
        self.stops: dict[tuple[StopKind, StopScope], str] = {}
        self.runs: dict[str, int] = {}
        self.crash = False

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    @property
    def holds(self) -> bool:
        return any(kind in (StopKind.KILL, StopKind.PAUSE) for kind, _ in self.stops)

    def target(self, scope: StopScope) -> str:
        named = {StopScope.CATEGORY: "tests", StopScope.DEPLOYMENT: self.deployment, StopScope.AGENT: "tester"}
        return "note" if scope is StopScope.SKILL else named.get(scope, "")

    @rule(kind=st.sampled_from([StopKind.KILL, StopKind.PAUSE, StopKind.DEGRADE]), scope=st.sampled_from(WIDE))
    def order(self, kind: StopKind, scope: StopScope) -> None:
        self.wait(self._order(kind, scope))

    @rule()
    def deny(self) -> None:
        self.wait(self._order(StopKind.DENY, StopScope.SKILL))

    async def _order(self, kind: StopKind, scope: StopScope) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            made = await service.order(work, Wanted(kind, scope, self.target(scope)), by="a")
        assert self.stops.setdefault((kind, scope), made.id) == made.id

    @precondition(lambda self: self.stops)
    @rule(data=st.data())
    def lift(self, data: st.DataObject) -> None:
        about = data.draw(st.sampled_from(sorted(self.stops)))
        self.wait(self._lift(self.stops.pop(about)))

    async def _lift(self, stop_id: str) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            await service.lift(work, stop_id, by="a")

    @precondition(lambda self: len(self.runs) < 4)
    @rule()
    def admit(self) -> None:
        self.runs[self.wait(self.held.start())] = 0

    @precondition(lambda self: self.runs)
    @rule(
        data=st.data(),
        crash=st.booleans(),
        meanwhile=st.sampled_from([None, StopKind.KILL, StopKind.PAUSE, StopKind.DENY, StopKind.DEGRADE]),
    )
    def work(self, data: st.DataObject, crash: bool, meanwhile: StopKind | None) -> None:
        """One segment, in which a stop may be ordered while an effect is on the wire, and the worker be lost."""
        run_id = data.draw(st.sampled_from(sorted(self.runs)))
        held, denied = self.holds, (StopKind.DENY, StopScope.SKILL) in self.stops
        degraded = any(kind is StopKind.DEGRADE for kind, _ in self.stops)
        before = len(self.held.world.done)
        self.held.world.acts.clear()
        ordered: list[StopKind] = []

        async def on_the_wire(_given: dict[str, Any]) -> dict[str, Any]:
            if meanwhile is not None:
                await self._order(meanwhile, SCOPES[meanwhile][0 if meanwhile is StopKind.DENY else 1])
                ordered.append(meanwhile)
            if crash:
                raise asyncio.CancelledError
            return {}

        self.held.world.next("note", on_the_wire)
        self.wait(self._segment(run_id))
        made = self.held.world.done[before:]
        if held:
            assert not made, "nothing is done while a stop holds the run"
        if denied:
            assert not any(skill == "note" for skill, _ in made)
        if degraded:
            assert not made
        if ordered:
            assert [skill for skill, _ in made].count("note") == 1, "what was on the wire, and nothing after the order"

    async def _segment(self, run_id: str) -> None:
        self.runs[run_id] += 1
        try:
            await self.held.segment(run_id, self.runs[run_id])  # type: ignore[arg-type]
        except asyncio.CancelledError:
            return

    @invariant()
    def what_is_in_force_is_what_the_model_says(self) -> None:
        assert {one.id for one in self.wait(self._in_force()).stops} == set(self.stops.values())

    async def _in_force(self) -> InForce:
        async with self.held.doors.open(self.held.organization) as work:
            return await service.in_force(work, Subject(self.deployment, "tester", "tests"))

    def teardown(self) -> None:
        """Once everything is lifted every run comes to its end, and each effect was done once."""
        for stop_id in self.stops.values():
            self.wait(self._lift(stop_id))
        self.stops.clear()
        self.held.world.acts.clear()
        for run_id, number in self.runs.items():
            run: Run = self.wait(self.held.finish(run_id, number + 1))  # type: ignore[arg-type]
            assert run.status.terminal or (run.waiting or {}).get("reason") == "approval"


async def test_stops_agree_with_a_model_in_any_order(held: Harness) -> None:
    machine, loop = StopsAgainstAModel, asyncio.get_running_loop()
    machine.loop = loop
    machine.make = staticmethod(lambda: _another(held, loop))  # type: ignore[assignment]
    bounded = settings(
        max_examples=12, stateful_step_count=14, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=bounded)


def _another(held: Harness, loop: asyncio.AbstractEventLoop) -> Harness:
    """A harness of an organization of its own, on the same connections."""
    name = OrgId(f"o{uuid.uuid4().hex[:12]}")
    founding = identity.found_organization(held.doors.database, name, name="Model")
    asyncio.run_coroutine_threadsafe(founding, loop).result(30)
    return harness(held.doors.database, name)


async def test_an_order_waits_for_what_is_being_decided_under_its_epoch(held: Harness) -> None:
    await held.agent([DONE])
    await held.start()

    async def order() -> None:
        async with held.doors.open(held.organization) as work:
            await service.order(work, Wanted(StopKind.KILL, StopScope.ORGANIZATION), by="a")

    async with held.doors.open(held.organization) as work:
        seen = await epochs.read(work, [epochs.ORGANIZATION])
        assert await epochs.unmoved(work, seen)
        ordering = asyncio.create_task(order())
        await asyncio.sleep(0.05)
        assert not ordering.done()
    await ordering
    async with held.doors.open(held.organization) as work:
        assert not await epochs.unmoved(work, seen)
