"""What policy would say of a call, and of each skill under a proposal."""

from __future__ import annotations

import pytest

from agentos.control.deployments.model import DeploymentUnknown
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, OrganizationPolicy, Tier, Verdict
from agentos.evidence.replay import service
from agentos.evidence.replay.model import Denylist, Proposal
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.epochs import deployment_scope
from agentos.kernel.ids import OrgId
from tests.runtime.runs.harness import DONE, Harness, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def test_a_ruling_is_what_the_run_would_meet_with_every_rule_beside_it(held: Harness) -> None:
    deployment = await held.agent([DONE], ["look", "note", "pay"], tier="L3")
    async with held.doors.open(held.organization) as work:
        policy = DeploymentPolicy(deny=("note",))
        await policies.save(work, deployment_scope(deployment), policy, by="ann", at=now())
    for skill, verdict, code in (
        ("look", Verdict.ALLOW, "tier_matrix"),
        ("note", Verdict.DENY, "deployment_denies"),
        ("pay", Verdict.ASK, "tier_matrix"),
        ("send", Verdict.DENY, "skill_not_allowed"),
        ("ghost", Verdict.DENY, "skill_unregistered"),
    ):
        async with held.doors.open(held.organization) as work:
            found = await service.ruling(work, held.parts.registry, deployment, skill, {})
        assert (found.decision.verdict, found.decision.code) == (verdict, code)
    passed = {rule.code for rule, answer in found.table if answer is None}
    assert {"skill_disabled", "denylisted"} <= passed


async def test_a_simulation_shows_each_skill_now_and_under_the_proposal(held: Harness) -> None:
    deployment = await held.agent([DONE], ["look", "note", "pay"], tier="L4")
    proposal = Proposal(
        organization=OrganizationPolicy(trusted=("pay",)), tier=Tier.L4, denylist=Denylist(skills=("no*",))
    )
    async with held.doors.open(held.organization) as work:
        found = await service.simulate(work, held.parts.registry, deployment, proposal, at=now())
    assert [(one.skill.name, one.now and one.now.verdict, one.proposed and one.proposed.verdict) for one in found] == [
        ("look", Verdict.ALLOW, Verdict.ALLOW),
        ("note", Verdict.ALLOW, Verdict.DENY),
        ("pay", Verdict.ASK, Verdict.ALLOW),
    ]


async def test_what_is_not_loaded_is_unknown_not_fine(held: Harness) -> None:
    deployment = await held.agent([DONE], ["look"], tier="L4")
    held.parts.registry._skills.clear()
    async with held.doors.open(held.organization) as work:
        (found,) = await service.simulate(work, held.parts.registry, deployment, Proposal(), at=now())
        ruling = await service.ruling(work, held.parts.registry, deployment, "look", {})
    assert (found.effect, found.now, found.proposed) == (None, None, None)
    assert (ruling.effect, ruling.decision.code) == (None, "skill_unregistered")


async def test_a_deployment_that_is_not_there_is_not_found(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        with pytest.raises(DeploymentUnknown):
            await service.ruling(work, held.parts.registry, "dep_01m7y9hwceepyafgvbxtvt9bec", "look", {})
