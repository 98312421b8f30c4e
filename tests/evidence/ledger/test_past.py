"""What was in force is told by entries alone, and what none tells is unknown."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from agentos.apps.facts import every_fact
from agentos.control.approvals.model import RoutingChanged
from agentos.control.budgets.model import BudgetChanged, PriceChanged
from agentos.control.deployments.model import (
    CanaryEnded,
    CanaryResized,
    CanaryStarted,
    DeploymentCreated,
    DeploymentPaused,
    TierChanged,
    VersionPromoted,
    VersionRolledBack,
)
from agentos.control.policy.model import PolicyChanged
from agentos.control.privacy.model import PrivacyRulesChanged
from agentos.control.stops.model import StopLifted, StopOrdered
from agentos.evidence.ledger import service
from agentos.evidence.ledger.chain import shown
from agentos.evidence.ledger.model import PERSONS, MomentsSwapped, NotYet, Search
from agentos.evidence.ledger.past import CHANGES, KINDS, UNKNOWN
from agentos.evidence.quality.model import GateAdded, GateRemoved, PromotionFrozen, PromotionUnfrozen
from agentos.intake.identity.model import OrganizationFounded
from agentos.kernel.clock import now
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.operations.shadows.model import ShadowEnded, ShadowStarted
from tests.evidence.ledger.conftest import Books


async def told(books: Books, organization: OrgId, *facts: Fact) -> None:
    async with books.doors.open(organization) as work:
        for fact in facts:
            await work.publish(fact)
    await books.chain()


async def test_each_moment_has_what_was_in_force_then(books: Books, organization: OrgId) -> None:
    before = now()
    await told(
        books,
        organization,
        DeploymentCreated("dep_1", "writer", "production", "ada", 2),
        VersionPromoted("dep_1", 1, "v1", "", "ada"),
        StopOrdered("stop_1", "kill", "agent", "writer", "ada"),
        PolicyChanged("organization", 1, "p1", "", "ada"),
        BudgetChanged("agent:writer", "day", 5, None, None, None, "ada"),
    )
    middle = now()
    await told(
        books,
        organization,
        VersionPromoted("dep_1", 2, "v2", "v1", "ada"),
        TierChanged("dep_1", 1, 2, "ada"),
        DeploymentPaused("dep_1", "ada"),
        StopLifted("stop_1", "kill", "agent", "writer", "ada"),
        BudgetChanged("agent:writer", "day", None, None, None, None, "ada"),
        VersionRolledBack("dep_1", 3, "v1", "v2", "ada"),
    )
    after = now()
    async with books.doors.open(organization) as work:
        early = await service.state(work, books.keys, at=before, now=after)
        one = await service.state(work, books.keys, at=middle, now=after)
        two = await service.state(work, books.keys, at=after, now=after)
        changes = (await service.difference(work, books.keys, before=middle, after=after, now=after))["changes"]
        assert (await service.difference(work, books.keys, before=before, after=after, now=after))["changes"] == UNKNOWN
        with pytest.raises(NotYet):
            await service.state(work, books.keys, at=after + timedelta(hours=1), now=after)
    assert {early[kind] for kind in KINDS} == {UNKNOWN}
    place = {"agent_id": "writer", "environment": "production"}
    assert one["deployments"] == {
        "dep_1": {
            **place,
            "version": "v1",
            "revision": 1,
            "canary": None,
            "shadow": None,
            "tier": "L2",
            "state": "active",
        }
    }
    assert one["stops"]["stop_1"] == {"kind": "kill", "scope": "agent", "target": "writer", "ordered_by": "ada"}
    assert one["policies"] == {"organization": {"number": 1, "policy": "p1"}}
    assert one["budgets"] == {"agent:writer day": {"money": 5, "tokens": None, "steps": None, "seconds": None}}
    assert two["deployments"] == {
        "dep_1": {
            **place,
            "version": "v1",
            "revision": 3,
            "canary": None,
            "shadow": None,
            "tier": "L1",
            "state": "paused",
        }
    }
    assert "stop_1" not in two["stops"]
    assert two["budgets"] == {}
    assert [(change["kind"], change["id"]) for change in changes] == [
        ("deployments", "dep_1"),
        ("stops", "stop_1"),
        ("budgets", "agent:writer day"),
    ]


async def test_a_canary_is_in_force_with_its_share_until_it_ends(books: Books, organization: OrgId) -> None:
    await told(
        books,
        organization,
        DeploymentCreated("dep_1", "writer", "production", "ada", 2),
        CanaryStarted("dep_1", 2, "v2", 10, "ada"),
    )
    moments = [now()]
    for fact in (CanaryResized("dep_1", 2, "v2", 50, 10, "ada"), CanaryEnded("dep_1", 2, "v2", "rolled_back", "ada")):
        await told(books, organization, fact)
        moments.append(now())
    async with books.doors.open(organization) as work:
        canaries = [
            (await service.state(work, books.keys, at=at, now=moments[-1]))["deployments"]["dep_1"]["canary"]
            for at in moments
        ]
        told_changes = await service.difference(work, books.keys, before=moments[0], after=moments[1], now=moments[-1])
    assert canaries == [
        {"version": "v2", "revision": 2, "percent": 10},
        {"version": "v2", "revision": 2, "percent": 50},
        None,
    ]
    (change,) = told_changes["changes"]
    assert (change["before"]["canary"]["percent"], change["after"]["canary"]["percent"]) == (10, 50)


async def test_what_no_entry_tells_is_unknown(books: Books, organization: OrgId) -> None:
    await told(books, organization, DeploymentPaused("dep_1", "ada"))
    async with books.doors.open(organization) as work:
        found = (await service.state(work, books.keys, at=now(), now=now()))["deployments"]["dep_1"]
    assert found == {**dict.fromkeys(found, UNKNOWN), "state": "paused"}


async def test_gates_freezes_shadows_prices_and_rules_are_in_force_until_they_are_not(
    books: Books, organization: OrgId
) -> None:
    gate = ("organization", "", "success_rate", ">=", 0.9, 3600, 20, "blocker")
    await told(
        books,
        organization,
        OrganizationFounded(organization, "ada"),
        DeploymentCreated("dep_1", "writer", "production", "ada", 2),
        ShadowStarted("dep_1", "v2", 10, False, "ada"),
        GateAdded("gate_1", *gate, "ada"),
        PromotionFrozen("frz_1", "agent", "writer", "ada"),
        PriceChanged("openai", "gpt", False, "ada"),
        RoutingChanged("sha256:1", "ada"),
        PrivacyRulesChanged(organization, "sha256:2", "ada"),
    )
    middle = now()
    await told(
        books,
        organization,
        ShadowEnded("dep_1", "v2", "ada"),
        GateRemoved("gate_1", "organization", "", "success_rate", "ada"),
        PromotionUnfrozen("frz_1", "agent", "writer", "ada"),
        PriceChanged("openai", "gpt", True, "ada"),
    )
    after = now()
    async with books.doors.open(organization) as work:
        one = await service.state(work, books.keys, at=middle, now=after)
        two = await service.state(work, books.keys, at=after, now=after)
    assert one["deployments"]["dep_1"]["shadow"] == {"version": "v2", "percent": 10, "live": False}
    assert tuple(one["gates"]["gate_1"].values()) == gate
    assert one["freezes"] == {"frz_1": {"scope": "agent", "target": "writer", "ordered_by": "ada"}}
    assert one["prices"] == {"openai gpt": {"price": UNKNOWN, "set_by": "ada"}}
    assert {name: rule["digest"] for name, rule in one["rules"].items()} == {
        "routing": "sha256:1",
        "privacy": "sha256:2",
    }
    assert (two["deployments"]["dep_1"]["shadow"], two["gates"], two["freezes"], two["prices"]) == (None, {}, {}, {})
    assert (one["is_complete"], one["model_switches"]) == (True, UNKNOWN)


async def test_a_ledger_that_begins_later_than_its_organization_is_not_complete(
    books: Books, organization: OrgId
) -> None:
    async with books.doors.open(organization) as work:
        assert (await service.state(work, books.keys, at=now(), now=now()))["is_complete"] is False
    await told(books, organization, PolicyChanged("organization", 1, "p1", "", "ada"))
    async with books.doors.open(organization) as work:
        assert (await service.state(work, books.keys, at=now(), now=now()))["is_complete"] is False


async def test_entries_that_are_not_as_they_were_chained_are_passed_over_and_told(
    books: Books, organization: OrgId
) -> None:
    await told(
        books,
        organization,
        OrganizationFounded(organization, "ada"),
        PolicyChanged("organization", 1, "p1", "", "ada"),
        PolicyChanged("organization", 2, "p2", "p1", "ada"),
        BudgetChanged("agent:writer", "day", 5, None, None, None, "ada"),
    )
    driver = await books.superuser()
    edit = "UPDATE ledger SET entry = {} WHERE org = $1 AND number = {}"
    await driver.execute(edit.format("'x'", 4), organization)
    eve = "convert_to(replace(convert_from(entry, 'UTF8'), 'ada', 'eve'), 'UTF8')"
    await driver.execute(edit.format(eve, 3), organization)
    await driver.close()
    at = now()
    async with books.doors.open(organization) as work:
        found = await service.state(work, books.keys, at=at, now=at)
        assert (found["policies"], found["budgets"]) == ({"organization": {"number": 1, "policy": "p1"}}, {})
        assert (found["passed_over"], found["is_complete"]) == (2, True)
        between = await service.difference(work, books.keys, before=at, after=at, now=at)
        told_of = ("is_complete", "ledger_to", "model_switches", "passed_over")
        assert {name: between[name] for name in told_of} == {name: found[name] for name in told_of}
        rows = await service.search(work, Search(), beyond=None, is_oldest_first=True, most=10)
        assert [shown(row)["seal"] for row in rows] == ["whole"] * 3 + ["unreadable"]
        about = await service.about(work, books.keys, ["PolicyChanged", "BudgetChanged"], [row.key for row in rows])
        assert [number for number, *_ in about] == [2]


async def test_a_state_is_folded_page_by_page(
    books: Books, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(books, organization, *(PolicyChanged("organization", one, f"p{one}", "", "ada") for one in range(1, 6)))
    monkeypatch.setattr(service, "PAGE", 2)
    async with books.doors.open(organization) as work:
        found = await service.state(work, books.keys, at=now(), now=now())
    assert found["policies"] == {"organization": {"number": 5, "policy": "p5"}}


async def test_two_moments_are_named_the_earlier_one_first(books: Books, organization: OrgId) -> None:
    at = now()
    async with books.doors.open(organization) as work:
        with pytest.raises(MomentsSwapped):
            await service.difference(work, books.keys, before=at, after=at - timedelta(seconds=1), now=at)
        assert (await service.difference(work, books.keys, before=at, after=at, now=at))["changes"] == UNKNOWN


def test_what_changes_a_state_are_facts_that_there_are() -> None:
    assert set(CHANGES) <= {kind.__name__ for kind in every_fact()}


def test_whoever_a_fact_names_as_its_doer_is_found_by_it() -> None:
    doers = {field.name for kind in every_fact() for field in dataclasses.fields(kind) if field.name.endswith("by")}
    assert doers <= set(PERSONS)
