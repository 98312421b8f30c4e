"""Whatever is ordered in whatever order, one revision serves and history is only added to."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from agentos.control.deployments import service
from agentos.control.deployments.model import Deployment, Revision, State, Status, last_known_good
from agentos.control.policy.model import Tier
from agentos.intake.identity import service as identity
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import DatabaseSettings
from agentos.kernel.unit_of_work import Doors

from .test_service import Desk

TIERS = {number: Tier(1 + number % 4) for number in range(1, 6)}

orders = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["apply", "promote", "rollback"]), st.integers(1, 5)),
        st.tuples(st.sampled_from(["pause", "resume", "back"]), st.none()),
        st.tuples(st.just("tier"), st.sampled_from(Tier)),
        st.tuples(st.just("retire"), st.none()),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(orders)
def test_one_revision_serves_and_history_is_only_added_to(
    database_url: str, loop: asyncio.Runner, wanted: list[tuple[str, Any]]
) -> None:
    loop.run(_follow(database_url, wanted))


async def _follow(database_url: str, wanted: list[tuple[str, Any]]) -> None:
    database = Database(DatabaseSettings(url=SecretStr(database_url), pool_size=2))
    try:
        organization = OrgId(f"o{uuid.uuid4().hex[:12]}")
        await identity.found_organization(database, organization, name="Test")
        desk = Desk(Doors(database), organization)
        deployment = (await desk.apply(1, tier=TIERS[1].name)).ensured.deployment.id
        before = await _look(desk, deployment)
        _check(before)
        for verb, given in wanted:
            facts = await _order(desk, deployment, verb, given)
            after = await _look(desk, deployment)
            _check(after)
            _check_step(before, after, facts)
            before = after
    finally:
        await database.close()


async def _order(desk: Desk, deployment: str, verb: str, given: Any) -> int:
    """Try one order; the number of facts that it published."""
    desk.facts = []
    with contextlib.suppress(Conflict, NotFound):
        match verb:
            case "apply":
                await desk.apply(given, tier=TIERS[given].name)
            case "promote":
                await desk.promote(deployment, str(given))
            case "rollback":
                await desk.rollback(deployment, str(given))
            case "back":
                await desk.rollback(deployment)
            case "tier":
                await desk.order(service.set_tier, deployment, given)
            case _:
                await desk.order(getattr(service, verb), deployment)
        return len([fact for fact in desk.facts if hasattr(fact, "deployment_id")])
    return 0


async def _look(desk: Desk, deployment: str) -> tuple[Deployment, list[Revision], int, Tier]:
    async with desk.work() as work:
        found = await service.get(work, deployment)
        past = await service.history(work, deployment)
        highest = next(TIERS[int(v.definition.instructions.split()[1][:-1])] for v in [await _serves(work, found)])
    return found, past, await desk.epoch(deployment), highest


async def _serves(work: Any, found: Deployment) -> Any:
    from agentos.control.agents import service as agents

    return await agents.get_version(work, found.agent_id, found.version or "1")


def _check(seen: tuple[Deployment, list[Revision], int, Tier]) -> None:
    found, past, _, highest = seen
    assert [one.number for one in past] == list(range(len(past), 0, -1))
    active = [one for one in past if one.status is Status.ACTIVE]
    assert len(active) == (0 if found.state is State.RETIRED else 1)
    assert all(one.number == found.revision and one.version == found.version for one in active)
    assert found.tier <= highest
    assert found.revision == max(one.number for one in past if one.served_from is not None)
    for one in past:
        if one.served_from is not None:
            assert (one.served_until is None) == (one in active)
        assert one.status is not Status.DRAFT or one.served_from is None
    good = last_known_good(past, found.revision)
    if good is not None:
        assert good.number < found.revision
        assert good.version != found.version
        assert good.status is Status.SUPERSEDED
        assert good.served_from is not None
        later = [one for one in past if one.number > good.number and one.version == good.version]
        assert not [one for one in later if one.status is Status.ROLLED_BACK]


AFTER = {
    Status.DRAFT: {Status.DRAFT, Status.ACTIVE, Status.SUPERSEDED, Status.RETIRED},
    Status.ACTIVE: {Status.ACTIVE, Status.SUPERSEDED, Status.ROLLED_BACK, Status.RETIRED},
}


def _check_step(before: tuple[Any, ...], after: tuple[Any, ...], facts: int) -> None:
    (was, past, epoch, _), (now_, later, new_epoch, _) = before, after
    known = {one.number: one for one in later}
    for one in past:
        same = known[one.number]
        assert (same.version, same.created_by, same.created_at) == (one.version, one.created_by, one.created_at)
        assert same.status in AFTER.get(one.status, {one.status})
        assert one.served_from is None or same.served_from == one.served_from
        assert one.served_until is None or same.served_until == one.served_until
    assert now_.revision >= was.revision
    changed = (was, past) != (now_, later)
    assert (now_.etag > was.etag) == changed
    assert (facts > 0) == changed
    may_do = (was.state, was.tier) != (now_.state, now_.tier)
    assert (new_epoch > epoch) == may_do
    assert was.state is not State.RETIRED or now_ == was


def revision(number: int, version: str, status: Status) -> Revision:
    at = None if status is Status.DRAFT else now()
    return Revision(number, version, 1, status, "", "a", now(), at, None)


def test_the_last_known_good_is_unknown_without_an_earlier_version() -> None:
    assert last_known_good([], 0) is None
    assert last_known_good([revision(1, "a", Status.ACTIVE), revision(2, "b", Status.DRAFT)], 1) is None
