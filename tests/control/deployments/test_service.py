"""What serves, how it changes, and that history is only added to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentos.control.agents import manifest
from agentos.control.agents.model import AgentUnknown, VersionUnknown
from agentos.control.deployments import applying, service, serving
from agentos.control.deployments.applying import Deployed
from agentos.control.deployments.model import (
    Deployment,
    DeploymentCreated,
    DeploymentExists,
    DeploymentIsPaused,
    DeploymentIsRetired,
    DeploymentPaused,
    DeploymentResumed,
    DeploymentRetired,
    DeploymentUnknown,
    NeverServed,
    NoLastKnownGood,
    NothingServes,
    NotPromotable,
    PreconditionFailed,
    RevisionDrafted,
    ServedBefore,
    ServesAlready,
    SkillContractBroken,
    State,
    Status,
    TierAboveVersion,
    TierChanged,
    VersionPromoted,
    VersionRolledBack,
    last_known_good,
)
from agentos.control.policy.model import Tier
from agentos.kernel import epochs, ids
from agentos.kernel.clock import now
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork

from ..agents.catalogues import Models, Skills, document

SKILLS = Skills("note@1")


class Desk:
    """Somebody who deploys in one organization, every order in a unit of work of its own."""

    def __init__(self, doors: Doors, organization: OrgId) -> None:
        self.doors = doors
        self.organization = organization
        self.skills = Skills("note@1")
        self.facts: list[Fact] = []

    @asynccontextmanager
    async def work(self) -> AsyncIterator[UnitOfWork]:
        async with self.doors.open(self.organization) as work:
            yield work
        self.facts = work.facts

    async def apply(
        self, number: int = 1, environment: str = "production", *, tier: str = "L3", **spec: Any
    ) -> Deployed:
        made = manifest.read_documents([document(instructions=f"Write {number}.", tier=tier, **spec)])
        async with self.work() as work:
            how: dict[str, Any] = {"by": "author", "at": now(), "environment": environment}
            (done,) = await applying.apply(work, made, self.skills, Models(), **how)
        return done

    async def order(self, verb: Callable[..., Awaitable[Deployment]], *given: Any, **more: Any) -> Deployment:
        async with self.work() as work:
            return await verb(work, *given, by="operator", at=now(), **more)

    async def promote(self, deployment: str, named: str, **more: Any) -> Deployment:
        return await self.order(service.promote, deployment, named, self.skills, **more)

    async def rollback(self, deployment: str, named: str | None = None, **more: Any) -> Deployment:
        return await self.order(service.rollback, deployment, named, self.skills, **more)

    async def story(self, deployment: str) -> list[tuple[int, int, str]]:
        """The history, oldest first: revision, number of the version, status."""
        async with self.work() as work:
            past = await service.history(work, deployment)
        return [(one.number, one.version_number, one.status.value) for one in reversed(past)]

    async def serving(self) -> int:
        async with self.work() as work:
            return (await serving.of_agent(work, "writer")).version.number

    async def epoch(self, deployment: str) -> int:
        scope = epochs.deployment_scope(deployment)
        async with self.work() as work:
            return (await epochs.read(work, [scope]))[scope]


@pytest.fixture
def desk(doors: Doors, organization: OrgId) -> Desk:
    return Desk(doors, organization)


async def deployed(desk: Desk, versions: int) -> str:
    """A deployment that was promoted from version 1 to this one."""
    made = await desk.apply(1)
    for number in range(2, versions + 1):
        await desk.apply(number)
        await desk.promote(made.ensured.deployment.id, str(number))
    return made.ensured.deployment.id


async def test_the_first_version_serves_and_a_later_one_waits_as_a_draft(desk: Desk) -> None:
    first = await desk.apply(1)
    assert [type(fact) for fact in desk.facts][-2:] == [DeploymentCreated, VersionPromoted]
    deployment = first.ensured.deployment
    assert (deployment.environment, deployment.tier, deployment.state) == ("production", Tier.L3, State.ACTIVE)
    assert deployment.version == first.applied.version.hash
    second = await desk.apply(2)
    assert type(desk.facts[-1]) is RevisionDrafted
    assert second.ensured.revision is not None
    assert second.ensured.revision.status is Status.DRAFT
    assert await desk.serving() == 1
    assert await desk.story(deployment.id) == [(1, 1, "active"), (2, 2, "draft")]


async def test_applying_again_changes_nothing(desk: Desk) -> None:
    await desk.apply(1)
    before = await desk.apply(2)
    for number in (1, 2):
        again = await desk.apply(number)
        assert not again.applied.created
        assert not again.ensured.created
        assert again.ensured.deployment == before.ensured.deployment


async def test_a_promotion_makes_the_draft_serve(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.apply(2)
    found = await desk.promote(deployment, "2", reason="reviewed")
    assert isinstance(desk.facts[-1], VersionPromoted)
    assert found.revision == 2
    assert await desk.story(deployment) == [(1, 1, "superseded"), (2, 2, "active")]
    async with desk.work() as work:
        new, old = await service.history(work, deployment)
    assert new.reason == "promoted: reviewed"
    assert old.served_until == new.served_from


async def test_a_version_that_served_before_is_promoted_under_a_new_revision(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    await desk.promote(deployment, "1")
    assert await desk.story(deployment) == [(1, 1, "superseded"), (2, 2, "superseded"), (3, 1, "active")]


async def test_a_promotion_passes_over_older_drafts_and_keeps_newer_ones(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    for number in (2, 3, 4):
        await desk.apply(number)
    await desk.promote(deployment, "3")
    assert await desk.story(deployment) == [
        (1, 1, "superseded"),
        (2, 2, "superseded"),
        (3, 3, "active"),
        (4, 4, "draft"),
    ]
    with pytest.raises(NeverServed):
        await desk.rollback(deployment, "2")


async def test_what_serves_already_is_not_promoted_again(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    with pytest.raises(ServesAlready):
        await desk.promote(deployment, "1")


async def test_an_unknown_version_is_not_promoted(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    with pytest.raises(VersionUnknown):
        await desk.promote(deployment, "7")


async def test_a_version_whose_skills_cannot_be_called_may_not_serve(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.apply(2, skills=["note@1"])
    desk.skills.digests["note@1"] = "sha256:other"
    with pytest.raises(NotPromotable, match="'note' version '1' changed without a new version"):
        await desk.promote(deployment, "2")
    desk.skills.digests.clear()
    with pytest.raises(NotPromotable, match="'note' version '1' is not loaded"):
        await desk.promote(deployment, "2")
    assert await desk.serving() == 1


async def test_a_version_whose_skills_break_what_serves_is_promoted_only_by_word(desk: Desk) -> None:
    desk.skills = Skills("note@1", "note@2", "look@1")
    deployment = (await desk.apply(1, skills=["note@1"])).ensured.deployment.id
    await desk.apply(2, skills=["note@2", "look@1"])
    desk.skills.broken = {"note@2": ("input.n: is required now",), "look@1": ("never asked: it is new here",)}
    with pytest.raises(
        SkillContractBroken, match=r"version 2 may not serve: note 1 → 2: input\.n: is required now"
    ) as no:
        await desk.promote(deployment, "2")
    assert "--accept-breaking" in no.value.then
    assert await desk.serving() == 1
    await desk.promote(deployment, "2", accept_breaking=True, reason="agreed")
    async with desk.work() as work:
        new, _ = await service.history(work, deployment)
    assert new.reason == "promoted, accepting broken contracts (note 1 → 2: input.n: is required now): agreed"


async def test_a_way_back_is_open_whatever_contracts_say(desk: Desk) -> None:
    desk.skills = Skills("note@1", "note@2")
    deployment = (await desk.apply(1, skills=["note@2"])).ensured.deployment.id
    await desk.apply(2, skills=["note@1"])
    await desk.promote(deployment, "2")
    desk.skills.broken = {"note@2": ("input.n: is required now",)}
    await desk.rollback(deployment)
    assert await desk.serving() == 1


async def test_a_rollback_adds_a_revision_that_names_what_it_returns_to(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    found = await desk.rollback(deployment, "1", reason="drops commits")
    assert isinstance(desk.facts[-1], VersionRolledBack)
    assert found.revision == 3
    assert await desk.story(deployment) == [(1, 1, "superseded"), (2, 2, "rolled_back"), (3, 1, "active")]
    async with desk.work() as work:
        assert (await service.history(work, deployment))[0].reason == "rollback to revision 1: drops commits"
    assert await desk.serving() == 1


async def test_a_rollback_without_a_name_returns_to_the_last_known_good(desk: Desk) -> None:
    deployment = await deployed(desk, 3)
    await desk.rollback(deployment)
    assert await desk.serving() == 2
    await desk.rollback(deployment)  # 3 was rolled back: it is no way back from 2
    assert await desk.serving() == 1
    with pytest.raises(NoLastKnownGood):
        await desk.rollback(deployment)
    assert await desk.serving() == 1
    async with desk.work() as work:
        found = await service.get(work, deployment)
        assert last_known_good(await service.history(work, deployment), found.revision) is None


async def test_a_version_that_was_rolled_back_and_promoted_again_is_good_again(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    await desk.rollback(deployment)
    await desk.promote(deployment, "2")
    await desk.apply(3)
    await desk.promote(deployment, "3")
    await desk.rollback(deployment)
    assert await desk.serving() == 2


async def test_a_rollback_goes_only_to_what_served_and_does_not_serve(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.apply(2)
    with pytest.raises(NeverServed):
        await desk.rollback(deployment, "2")
    with pytest.raises(ServesAlready):
        await desk.rollback(deployment, "1")
    with pytest.raises(VersionUnknown):
        await desk.rollback(deployment, "9")
    with pytest.raises(NoLastKnownGood):
        await desk.rollback(deployment)


async def test_a_draft_survives_a_rollback(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    await desk.apply(3)
    await desk.rollback(deployment)
    await desk.promote(deployment, "3")
    assert await desk.serving() == 3


async def test_a_paused_deployment_admits_nothing_until_it_is_resumed(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.order(service.pause, deployment)
    assert type(desk.facts[-1]) is DeploymentPaused
    with pytest.raises(DeploymentIsPaused):
        await desk.serving()
    await desk.order(service.resume, deployment)
    assert type(desk.facts[-1]) is DeploymentResumed
    assert await desk.serving() == 1


async def test_a_paused_deployment_can_be_rolled_back_and_stays_paused(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    await desk.order(service.pause, deployment)
    found = await desk.rollback(deployment)
    assert found.state is State.PAUSED
    await desk.order(service.resume, deployment)
    assert await desk.serving() == 1


async def test_a_retired_deployment_stays_so_and_its_environment_is_free(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    await desk.apply(3)
    await desk.order(service.retire, deployment)
    assert type(desk.facts[-1]) is DeploymentRetired
    assert await desk.story(deployment) == [(1, 1, "superseded"), (2, 2, "retired"), (3, 3, "retired")]
    with pytest.raises(DeploymentIsRetired):
        await desk.serving()
    for order in (
        desk.promote(deployment, "1"),
        desk.rollback(deployment),
        desk.order(service.pause, deployment),
        desk.order(service.resume, deployment),
        desk.order(service.set_tier, deployment, Tier.L0),
    ):
        with pytest.raises(DeploymentIsRetired):
            await order
    applied = await desk.apply(4)  # a routine apply does not bring back what somebody ended
    assert applied.ensured.revision is None
    assert applied.ensured.deployment.id == deployment
    with pytest.raises(ServedBefore):  # a new deployment is no way past the gates
        await desk.order(applying.create, "writer", "production", None, desk.skills, serve=True)
    new = await desk.order(applying.create, "writer", "production", None, desk.skills)
    assert new.id != deployment
    await desk.promote(new.id, "4")
    assert await desk.serving() == 4


async def test_what_served_elsewhere_comes_to_production_as_a_draft(desk: Desk) -> None:
    version = (await desk.apply(1, "staging")).applied.version
    applied = await desk.apply(2)
    assert applied.ensured.revision is not None
    assert applied.ensured.revision.status is Status.DRAFT
    assert applied.ensured.deployment.version is None
    assert (await desk.apply(2)).ensured.created is False
    assert (await desk.promote(applied.ensured.deployment.id, version.hash)).version == version.hash


async def test_nothing_is_created_serving_in_production_that_served_elsewhere(desk: Desk) -> None:
    await desk.apply(1, "staging")
    with pytest.raises(ServedBefore):
        await desk.order(applying.create, "writer", "production", None, desk.skills, serve=True)


async def test_pausing_resuming_and_retiring_again_change_nothing(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    for verb in (service.resume, service.pause, service.pause, service.retire, service.retire):
        await desk.order(verb, deployment)
    async with desk.work() as work:
        assert (await service.get(work, deployment)).etag == 4  # promoted, paused, retired
    assert await desk.epoch(deployment) == 2


async def test_a_created_deployment_serves_nothing_before_a_promotion(desk: Desk) -> None:
    await desk.apply(1)
    made = await desk.order(applying.create, "writer", "staging", "1", desk.skills, tier=Tier.L1)
    assert (made.revision, made.version, made.tier) == (0, None, Tier.L1)
    async with desk.work() as work:
        with pytest.raises(NothingServes):
            await serving.of_agent(work, "writer", "staging")
    with pytest.raises(NothingServes):
        await desk.rollback(made.id)
    with pytest.raises(TierAboveVersion):
        await desk.order(service.set_tier, made.id, Tier.L4)
    found = await desk.promote(made.id, "1")
    assert (found.revision, found.tier) == (1, Tier.L1)
    with pytest.raises(DeploymentExists):
        await desk.order(applying.create, "writer", "staging", None, desk.skills)
    with pytest.raises(TierAboveVersion):
        await desk.order(applying.create, "writer", "canary", None, desk.skills, tier=Tier.L4)


async def test_the_tier_is_at_most_the_versions_highest(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    assert (await desk.order(service.set_tier, deployment, Tier.L1)).tier is Tier.L1
    assert desk.facts == [TierChanged(deployment, 1, 3, "operator")]
    assert (await desk.order(service.set_tier, deployment, Tier.L3)).tier is Tier.L3
    with pytest.raises(TierAboveVersion):
        await desk.order(service.set_tier, deployment, Tier.L4)


async def test_a_version_that_allows_itself_less_lowers_the_tier_and_none_raises_it(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.apply(2, tier="L1")
    before = await desk.epoch(deployment)
    assert (await desk.promote(deployment, "2")).tier is Tier.L1
    assert [type(fact) for fact in desk.facts] == [TierChanged, VersionPromoted]
    assert await desk.epoch(deployment) == before + 1
    assert (await desk.rollback(deployment)).tier is Tier.L1


async def test_what_withholds_action_bumps_the_epoch_and_nothing_else_does(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    await desk.apply(2)
    epoch = await desk.epoch(deployment)

    async def bumps(order: Awaitable[Any]) -> int:
        before = await desk.epoch(deployment)
        await order
        return await desk.epoch(deployment) - before

    assert epoch == 0
    assert await bumps(desk.promote(deployment, "2")) == 0
    assert await bumps(desk.rollback(deployment)) == 0
    assert await bumps(desk.apply(3)) == 0
    assert await bumps(desk.order(service.set_tier, deployment, Tier.L1)) == 1
    assert await bumps(desk.order(service.set_tier, deployment, Tier.L1)) == 0
    assert await bumps(desk.order(service.pause, deployment)) == 1
    assert await bumps(desk.order(service.resume, deployment)) == 1
    assert await bumps(desk.order(service.retire, deployment)) == 1


async def test_an_order_for_another_state_is_refused_and_changes_nothing(desk: Desk) -> None:
    deployment = await deployed(desk, 2)
    async with desk.work() as work:
        found = await service.get(work, deployment)
    for order in (
        desk.promote(deployment, "1", if_match={found.etag - 1}),
        desk.rollback(deployment, if_match={found.etag + 1}),
        desk.order(service.pause, deployment, if_match=set()),
        desk.order(service.resume, deployment, if_match={0}),
        desk.order(service.retire, deployment, if_match={0}),
        desk.order(service.set_tier, deployment, Tier.L0, if_match={0}),
    ):
        with pytest.raises(PreconditionFailed):
            await order
    async with desk.work() as work:
        assert await service.get(work, deployment) == found
    changed = await desk.order(service.pause, deployment, if_match={found.etag, 99})
    assert changed.etag == found.etag + 1


async def test_of_promotions_at_the_same_time_one_serves_and_all_are_in_the_history(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    for number in range(2, 7):
        await desk.apply(number)
    done = await asyncio.gather(
        *(desk.promote(deployment, str(number)) for number in (6, 3, 5, 2, 4)), return_exceptions=True
    )
    assert not [one for one in done if isinstance(one, BaseException)]
    story = await desk.story(deployment)
    assert [status for _, _, status in story].count("active") == 1
    assert story[-1][2] == "active"
    async with desk.work() as work:
        past = await service.history(work, deployment)
        served = sorted((one for one in past if one.served_from), key=lambda one: one.number)
        assert {one.version_number for one in served} == {1, 2, 3, 4, 5, 6}
        assert all(one.served_until for one in served[:-1])


async def test_of_promotions_that_saw_the_same_state_one_wins(desk: Desk) -> None:
    deployment = await deployed(desk, 1)
    for number in (2, 3, 4):
        applied = await desk.apply(number)
    etag = applied.ensured.deployment.etag
    done = await asyncio.gather(
        *(desk.promote(deployment, str(number), if_match={etag}) for number in (2, 3, 4)), return_exceptions=True
    )
    assert sum(isinstance(one, Deployment) for one in done) == 1
    assert sum(isinstance(one, PreconditionFailed) for one in done) == 2


async def test_first_applies_at_the_same_time_make_one_deployment(desk: Desk) -> None:
    desks = [Desk(desk.doors, desk.organization) for _ in range(4)]
    done = await asyncio.gather(*(one.apply(number) for number, one in enumerate(desks)))
    assert len({one.ensured.deployment.id for one in done}) == 1
    story = await desk.story(done[0].ensured.deployment.id)
    assert [status for _, _, status in story] == ["active", "draft", "draft", "draft"]


async def test_a_version_put_forward_outside_of_an_apply_is_put_forward_once(desk: Desk) -> None:
    version = (await desk.apply(1)).applied.version

    async def ensure() -> Any:
        async with desk.doors.open(desk.organization) as work:
            return await applying.ensure(work, "writer", "staging", version, by="author", at=now())

    done = await asyncio.gather(*(ensure() for _ in range(4)))
    assert sum(one.created for one in done) == 1
    assert len({one.deployment.id for one in done}) == 1


async def test_what_does_not_exist_is_told_apart(desk: Desk) -> None:
    await desk.apply(1)
    async with desk.work() as work:
        with pytest.raises(AgentUnknown):
            await serving.of_agent(work, "nobody")
        with pytest.raises(DeploymentUnknown):
            await serving.of_agent(work, "writer", "staging")
        with pytest.raises(DeploymentUnknown):
            await service.get(work, ids.new("dep"))
        with pytest.raises(ids.MalformedId):
            await service.get(work, "dep_x")


async def test_deployments_of_an_organization_are_invisible_to_another(desk: Desk, doors: Doors, database: Any) -> None:
    from agentos.intake.identity import service as identity

    deployment = await deployed(desk, 1)
    other = OrgId(desk.organization + "y")
    await identity.found_organization(database, other, name="Other")
    stranger = Desk(doors, other)
    with pytest.raises(DeploymentUnknown):
        await stranger.order(service.pause, deployment)
    async with stranger.work() as work:
        assert await service.list_deployments(work) == []
