"""Policy binds the very effect it is about: what is said before an intent is journaled decides whether it is."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.approvals import service as approvals
from agentos.control.deployments import service as deployments
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, EffectClass, OrganizationPolicy, Policy, Tier
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.epochs import ORGANIZATION, bump, category_scope, deployment_scope
from agentos.kernel.ids import RunId
from agentos.runtime.runs import service
from agentos.runtime.runs.model import RunStatus
from agentos.runtime.skills import Retry, declaring
from agentos.runtime.skills.model import Reversibility
from tests.runtime.runs.harness import DONE, Harness, calls


async def save(held: Harness, policy: Policy, scope: str = ORGANIZATION) -> None:
    async with held.doors.open(held.organization) as work:
        await policies.save(work, scope, policy, by="ann", at=now(), confirm=True)


async def stop(held: Harness, kind: str, scope: str, target: str, epoch: str) -> None:
    async with held.doors.open(held.organization) as work:
        values = {"org": held.organization, "id": ids.new("run"), "kind": kind, "scope": scope, "target": target}
        await work.run(
            text(
                "INSERT INTO stops (org, id, kind, scope, target, reason, ordered_by, ordered_at) "
                "VALUES (:org, :id, :kind, :scope, :target, 'why', 'ann', clock_timestamp())"
            ),
            values,
        )
        await bump(work, epoch)


async def result(held: Harness, run_id: RunId, key: str = "t0.c0") -> dict[str, Any]:
    return next(one for one in await held.steps(run_id) if (one["key"], one["phase"]) == (key, "result"))


async def approve(held: Harness, run_id: RunId) -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=10)
        await approvals.answer(
            work, asked.id, person_id="person_x", handle="approver", approved=True, note="", at=now()
        )


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (OrganizationPolicy(deny=("no*",)), "organization_denies"),
        (OrganizationPolicy(disabled=("note",)), "skill_disabled"),
        (
            OrganizationPolicy(cedar='@id("n") forbid(principal, action, resource == Skill::"note");'),
            "organization_rules",
        ),
        (DeploymentPolicy(deny=("note",)), "deployment_denies"),
        (DeploymentPolicy(allow=("look",)), "skill_not_allowed"),
    ],
)
async def test_what_a_policy_denies_is_not_done_and_the_journal_says_by_what(
    held: Harness, policy: Policy, code: str
) -> None:
    deployment = await held.agent([calls(("note", 1)), DONE])
    scope = ORGANIZATION if isinstance(policy, OrganizationPolicy) else deployment_scope(deployment)
    await save(held, policy, scope)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.done == []
    denied = await result(held, run.id)
    assert (denied["status"], denied["content"]["code"], denied["meta"]["decision"]) == ("denied", code, code)
    assert denied["meta"]["policy"].startswith("sha256:")
    assert denied["meta"]["rule"]
    assert denied["meta"]["tier"] == "L4"
    assert code == "skill_disabled" or denied["meta"]["reasons"]


@pytest.mark.parametrize(
    ("kind", "scope", "target", "status", "code"),
    [
        ("deny", "skill", "no*", "denied", "denylisted"),
        ("deny", "agent", "tester", "denied", "denylisted"),
        ("degrade", "organization", "", "drafted", "tier_matrix"),
    ],
)
async def test_a_stop_binds_the_next_effect_of_a_run_under_way(
    held: Harness, kind: str, scope: str, target: str, status: str, code: str
) -> None:
    await held.agent([calls(("note", 1)), calls(("look", 2)), calls(("note", 3)), DONE])
    run_id = await held.start()

    async def ordered(_given: dict[str, Any]) -> dict[str, Any]:
        await stop(held, kind, scope, target, ORGANIZATION)
        return {}

    held.world.next("look", ordered)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1
    after = await result(held, run_id, "t2.c0")
    assert (after["status"], after["meta"]["decision"]) == (status, code)
    assert "stop " in str(after["meta"]["reasons"])


async def test_a_policy_saved_while_a_run_is_under_way_binds_its_next_effect(held: Harness) -> None:
    deployment = await held.agent([calls(("note", 1)), calls(("look", 2)), calls(("note", 3)), DONE])
    run_id = await held.start()

    async def saved(_given: dict[str, Any]) -> dict[str, Any]:
        await save(held, DeploymentPolicy(deny=("note",)), deployment_scope(deployment))
        return {}

    held.world.next("look", saved)
    await held.finish(run_id)
    assert held.world.count("note") == 1
    first = next(one for one in await held.steps(run_id) if one["key"] == "t0.c0~1")
    after = await result(held, run_id, "t2.c0")
    assert after["meta"]["decision"] == "deployment_denies"
    assert after["meta"]["policy"] != first["meta"]["policy"]


async def test_a_lowered_tier_makes_the_next_effect_of_a_run_under_way_a_draft(held: Harness) -> None:
    deployment = await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])

    async def lowered(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await deployments.set_tier(work, deployment, Tier.L1, by="ann", at=now())
        return {}

    held.world.next("look", lowered)
    run = await held.finish(await held.start())
    drafted = await result(held, run.id, "t1.c0")
    assert (drafted["status"], drafted["meta"]["tier"], drafted["meta"]["reasons"]) == ("drafted", "L1", ["L1 × S1"])
    assert held.world.count("note") == 0


async def test_a_trusted_skill_of_s3_acts_alone_at_l4_and_one_that_must_ask_asks(held: Harness) -> None:
    await save(held, OrganizationPolicy(trusted=("pay",), ask=("note",)))
    await held.agent([calls(("pay", 1)), calls(("note", 2)), DONE], ["pay", "note"])
    run_id = await held.start()
    run = await held.finish(run_id)
    assert (run.status, held.world.count("pay"), held.world.count("note")) == (RunStatus.WAITING_APPROVAL, 1, 0)
    asked = await result(held, run_id, "t1.c0!ask")
    assert (asked["meta"]["decision"], asked["meta"]["reasons"]) == ("approval_required", ["glob: note"])
    await approve(held, run_id)
    run = await held.finish(run_id, run.token.segment + 1)
    assert (run.status, held.world.count("note")) == (RunStatus.COMPLETED, 1)


async def test_a_read_that_takes_an_approval_waits_for_it(held: Harness) -> None:
    await save(held, OrganizationPolicy(ask=("look",)))
    await held.agent([calls(("look", 1), ("look", 2)), DONE])
    run_id = await held.start()
    number = 1
    for done in (1, 2):
        run = await held.finish(run_id, number)
        assert run.status is RunStatus.WAITING_APPROVAL
        await approve(held, run_id)
        number = run.token.segment + 1
        assert held.world.count("look") == done - 1
    run = await held.finish(run_id, number)
    assert (run.status, held.world.count("look")) == (RunStatus.COMPLETED, 2)


async def test_a_domain_on_the_denylist_is_found_in_the_arguments(held: Harness) -> None:
    await stop(held, "deny", "domain", "evil.example", ORGANIZATION)
    script = {"calls": [{"skill": "tell", "arguments": {"n": 1, "to": {"urls": ["https://api.evil.example/x"]}}}]}

    async def tell(n: int, to: dict[str, list[str]]) -> dict[str, int]:
        held.world.done.append(("tell", str(n)))
        return {"n": n}

    tell.__annotations__ = {"n": int, "to": dict[str, list[str]], "return": dict[str, int]}
    declared = declaring.Declared(
        tell, "tell", "1", EffectClass.S1, Reversibility.REVERSIBLE, True, "1s", Retry(), None
    )
    held.parts.registry.add(declaring.build(declared))
    await held.agent([script, DONE], ["tell"])
    run = await held.finish(await held.start())
    denied = await result(held, run.id)
    assert (denied["status"], denied["meta"]["decision"]) == ("denied", "denylisted")
    assert held.world.done == []


async def test_a_skill_that_is_not_loaded_and_one_that_is_not_named_are_told_apart(held: Harness) -> None:
    await held.agent([calls(("ghost", 1), ("send", 2)), DONE], ["look"])
    run = await held.finish(await held.start())
    assert (await result(held, run.id, "t0.c0"))["meta"]["decision"] == "skill_unregistered"
    assert (await result(held, run.id, "t0.c1"))["meta"]["decision"] == "skill_not_allowed"


async def test_a_run_reads_policies_only_when_an_epoch_has_moved(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = await held.agent([calls(("note", 1)), DONE])
    reads = 0
    real = policies.rulebook

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await real(*arguments)

    monkeypatch.setattr(policies, "rulebook", counted)
    for _ in range(3):
        await held.finish(await held.start())
    assert reads == 1
    for epoch in (ORGANIZATION, category_scope("tests"), deployment_scope(deployment)):
        async with held.doors.open(held.organization) as work:
            await bump(work, epoch)
        await held.finish(await held.start())
    assert reads == 4


async def uncertain(held: Harness, run_id: RunId, number: int = 1) -> None:
    """The worker is lost while the call is on the wire, and a person says that it did not happen."""

    def crash(_arguments: dict[str, Any]) -> Any:
        raise KeyboardInterrupt

    held.world.next("send", crash)
    with pytest.raises(KeyboardInterrupt):
        await held.segment(run_id, number)
    run = await held.finish(run_id, number + 1)
    assert run.waiting is not None
    assert run.waiting["reason"] == "uncertain_effect"
    async with held.doors.open(held.organization) as work:
        await service.settle(work, run_id, "t0.c0~1", happened=False, value=None, by="ann")


async def test_a_call_that_was_allowed_is_not_sent_again_without_the_yes_that_it_takes_now(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    await uncertain(held, run_id)
    await save(held, OrganizationPolicy(ask=("send",)))
    run = await held.finish(run_id, 5)
    assert (run.status, held.world.count("send")) == (RunStatus.WAITING_APPROVAL, 1)
    await approve(held, run_id)
    run = await held.finish(run_id, 8)
    assert (run.status, held.world.count("send")) == (RunStatus.COMPLETED, 2)


async def test_a_yes_covers_its_call_also_when_it_has_to_be_sent_again(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    await save(held, OrganizationPolicy(ask=("send",)))
    run_id = await held.start()
    assert (await held.finish(run_id)).status is RunStatus.WAITING_APPROVAL
    await approve(held, run_id)
    await uncertain(held, run_id, 3)
    run = await held.finish(run_id, 8)
    assert (run.status, held.world.count("send")) == (RunStatus.COMPLETED, 2)
    async with held.doors.open(held.organization) as work:
        assert len(await approvals.listed(work, status="", run_id=run_id, after="", most=10)) == 1
