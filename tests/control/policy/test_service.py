"""Policies as they are kept: each under its hash, the newest in force, none lost, none of another organization."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from agentos.control.policy import service
from agentos.control.policy.model import (
    DeploymentPolicy,
    OrganizationPolicy,
    Policy,
    PolicyChangedMeanwhile,
    PolicyDeniesEverything,
    PolicyRefused,
    Saved,
)
from agentos.control.stops.model import Subject
from agentos.intake.identity import service as identity
from agentos.kernel import epochs, ids
from agentos.kernel.database import Database
from agentos.kernel.epochs import ORGANIZATION, deployment_scope
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors

AT = datetime(2026, 3, 4, tzinfo=UTC)
SUBJECT = Subject("dep_1", "payer", "money")
OWN = deployment_scope(SUBJECT.deployment_id)


async def saved(doors: Doors, organization: OrgId, policy: Policy, scope: str = ORGANIZATION, **more: Any) -> Saved:
    async with doors.open(organization) as work:
        return await service.save(work, scope, policy, by="ann", at=AT, **more)


async def epoch(doors: Doors, organization: OrgId, scope: str) -> int:
    async with doors.open(organization) as work:
        return (await epochs.read(work, [scope])).get(scope, 0)


async def test_before_anything_is_saved_the_empty_policy_is_in_force(doors: Doors, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        found = await service.get(work, ORGANIZATION)
        book = await service.rulebook(work, SUBJECT)
    assert (found.number, found.hash, found.saved_at) == (0, OrganizationPolicy().hash, None)
    assert (book.organization, book.deployment) == (OrganizationPolicy(), DeploymentPolicy())


@pytest.mark.parametrize(
    ("scope", "policy"),
    [
        (ORGANIZATION, OrganizationPolicy(deny=("pay*",), cedar='forbid(principal, action, resource == Skill::"x");')),
        (OWN, DeploymentPolicy(allow=("look",), ask=("look",))),
    ],
)
async def test_what_is_saved_is_in_force_under_its_hash_and_bumps_its_epoch(
    doors: Doors, organization: OrgId, scope: str, policy: Policy
) -> None:
    before = await epoch(doors, organization, scope)
    found = await saved(doors, organization, policy, scope, reason="because")
    assert (found.number, found.hash, found.reason, found.saved_by) == (1, policy.hash, "because", "ann")
    assert await epoch(doors, organization, scope) == before + 1
    async with doors.open(organization) as work:
        book = await service.rulebook(work, SUBJECT)
        facts = await work.all(text("SELECT name, key, body FROM outbox WHERE name = 'PolicyChanged'"))
    assert policy in (book.organization, book.deployment)
    assert [(fact.name, fact.key, fact.body["policy"]) for fact in facts] == [("PolicyChanged", scope, policy.hash)]


async def test_saving_what_is_in_force_changes_nothing(doors: Doors, organization: OrgId) -> None:
    policy = OrganizationPolicy(deny=("pay",))
    first = await saved(doors, organization, policy)
    before = await epoch(doors, organization, ORGANIZATION)
    assert await saved(doors, organization, policy, reason="again") == first
    assert await epoch(doors, organization, ORGANIZATION) == before


async def test_history_is_kept_newest_first_and_cannot_be_rewritten(doors: Doors, organization: OrgId) -> None:
    for name in ("a", "b", "a"):
        await saved(doors, organization, OrganizationPolicy(deny=(name,)))
    async with doors.open(organization) as work:
        found = await service.history(work, ORGANIZATION)
        older = await service.history(work, ORGANIZATION, before=2)
    assert [(one.number, one.document["deny"]) for one in found] == [(3, ["a"]), (2, ["b"]), (1, ["a"])]
    assert found[0].hash == found[2].hash
    assert [one.number for one in older] == [1]
    for statement in ("UPDATE policies SET document = '{}'", "DELETE FROM policies"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with doors.open(organization) as work:
                await work.run(text(statement))


async def test_a_broken_policy_is_refused_and_the_old_one_stays(doors: Doors, organization: OrgId) -> None:
    good = await saved(doors, organization, OrganizationPolicy(deny=("pay",)))
    for broken, where in (
        (OrganizationPolicy(cedar="permit(principal action, resource);"), "cedar:1:18"),
        (OrganizationPolicy(deny=("pay me",)), "deny[0]"),
        (OrganizationPolicy(trusted=("pay*",)), "trusted[0]"),
        (OrganizationPolicy(ask=tuple(f"s{n}" for n in range(201))), "ask"),
    ):
        with pytest.raises(PolicyRefused) as refused:
            await saved(doors, organization, broken)
        assert refused.value.where == where
    async with doors.open(organization) as work:
        assert await service.get(work, ORGANIZATION) == good


@pytest.mark.parametrize(
    ("scope", "policy"),
    [
        (ORGANIZATION, OrganizationPolicy(deny=("*",))),
        (ORGANIZATION, OrganizationPolicy(deny=("[a-m]*", "[n-z]*"))),
        (ORGANIZATION, OrganizationPolicy(cedar="forbid(principal, action, resource);")),
        (OWN, DeploymentPolicy(deny=("?*",))),
        (OWN, DeploymentPolicy(allow=())),
        (OWN, DeploymentPolicy(allow=("pay",), deny=("p*",))),
    ],
)
async def test_a_policy_that_would_deny_everything_asks_for_confirmation(
    doors: Doors, organization: OrgId, scope: str, policy: Policy
) -> None:
    with pytest.raises(PolicyDeniesEverything):
        await saved(doors, organization, policy, scope)
    assert (await saved(doors, organization, policy, scope, confirm=True)).number == 1


@pytest.mark.parametrize(
    "policy",
    [
        OrganizationPolicy(deny=("pay*", "*_out")),
        OrganizationPolicy(cedar="forbid(principal, action, resource) when { context.effect > 0 };"),
        DeploymentPolicy(allow=("pay",)),
        DeploymentPolicy(allow=("[xy]_*",), deny=("pay*",)),
    ],
)
async def test_a_policy_that_leaves_something_needs_no_confirmation(policy: Policy) -> None:
    assert not service.denies_everything(policy)


async def test_a_change_of_another_state_than_the_one_that_was_seen_is_refused(
    doors: Doors, organization: OrgId
) -> None:
    await saved(doors, organization, OrganizationPolicy(deny=("a",)), if_match={0})
    with pytest.raises(PolicyChangedMeanwhile):
        await saved(doors, organization, OrganizationPolicy(deny=("b",)), if_match={0})
    assert (await saved(doors, organization, OrganizationPolicy(deny=("b",)), if_match={1})).number == 2


async def test_policies_saved_at_once_are_numbered_one_after_the_other(doors: Doors, organization: OrgId) -> None:
    await asyncio.gather(*(saved(doors, organization, OrganizationPolicy(deny=(f"s{n}",))) for n in range(4)))
    async with doors.open(organization) as work:
        assert [one.number for one in await service.history(work, ORGANIZATION)] == [4, 3, 2, 1]


async def test_another_organization_sees_and_is_bound_by_nothing_of_it(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    await saved(doors, organization, OrganizationPolicy(deny=("pay",)))
    other = OrgId(f"o{uuid.uuid4().hex[:12]}")
    await identity.found_organization(database, other, name="Others")
    async with doors.open(other) as work:
        assert await work.all(text("SELECT * FROM policies")) == []
        assert (await service.rulebook(work, SUBJECT)).organization == OrganizationPolicy()


async def test_a_rulebook_is_read_once_while_the_epochs_stand(
    doors: Doors, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, reads = service.Rulebooks(), 0
    real = service.rulebook

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0.01)
        return await real(*arguments)

    monkeypatch.setattr(service, "rulebook", counted)
    seen = {ORGANIZATION: 1}
    books = await asyncio.gather(*(kept.under(doors, organization, SUBJECT, seen) for _ in range(20)))
    assert reads == 1
    assert len({id(book) for book in books}) == 1
    await saved(doors, organization, OrganizationPolicy(deny=("pay",)))
    assert await kept.under(doors, organization, SUBJECT, seen) is books[0]
    newer = await kept.under(doors, organization, SUBJECT, {ORGANIZATION: 2})
    assert (reads, newer.organization.deny) == (2, ("pay",))


async def test_a_stop_in_force_is_part_of_the_rulebook(doors: Doors, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        values = {"org": organization, "id": ids.new("run"), "at": AT + timedelta(hours=1)}
        await work.run(
            text(
                "INSERT INTO stops (org, id, kind, scope, target, reason, ordered_by, ordered_at) "
                "VALUES (:org, :id, 'kill', 'category', 'money', 'why', 'ann', :at)"
            ),
            values,
        )
        assert (await service.rulebook(work, SUBJECT)).stops.held is not None
        assert (await service.rulebook(work, Subject("dep_2", "other", "toys"))).stops.held is None
