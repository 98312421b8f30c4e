"""What recorded runs would have come to under another version, model or policy, without a single effect."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.adapters.llm.stub import Stub, behaviour
from agentos.control.agents import manifest
from agentos.control.agents import service as agents
from agentos.control.approvals import service as approvals
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Limits as Most
from agentos.control.budgets.model import Period, Price
from agentos.control.policy.model import OrganizationPolicy
from agentos.control.privacy import service as privacy
from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind, StopScope, Wanted
from agentos.evidence.replay import what_if
from agentos.evidence.replay.content import Kind
from agentos.evidence.replay.model import Denylist, Limits, Proposal
from agentos.evidence.replay.what_if import BadWhatIf, Comparison, Instead
from agentos.evidence.usage.model import Dimension
from agentos.kernel.clock import now
from agentos.kernel.database import Database, DatabaseUnavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from agentos.runtime.inference import Answer, Question, Usage
from agentos.runtime.inference.model import ModelUnavailable
from tests.evidence.usage.fleet import count, lines
from tests.runtime.runs.harness import DONE, Harness, calls, harness

ALL = ["look", "note", "send", "pay"]
WORK = [calls(("look", 1), ("note", 2)), DONE]


@behaviour("what_if_eager")
def eager(question: Question) -> dict[str, Any]:
    """Do the recorded work and one thing that nobody recorded."""
    turn = sum(message.role == "assistant" for message in question.messages)
    return [calls(("look", 1)), calls(("note", 2)), calls(("send", 9)), DONE][turn]


@behaviour("what_if_brief")
def brief(question: Question) -> dict[str, Any]:
    """Look, and be done."""
    turn = sum(message.role == "assistant" for message in question.messages)
    return [calls(("look", 1)), DONE][turn]


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def ran(held: Harness, script: Any = None, **more: Any) -> str:
    await held.agent(script or WORK, ALL, **more)
    run_id = await held.start()
    await held.finish(run_id)
    return run_id


async def tried(held: Harness, *run_ids: str, live: bool = False, **instead: Any) -> Comparison:
    """A comparison that called no skill and wrote no journal."""
    done = list(held.world.done)
    async with held.doors.open(held.organization) as work:
        prepared = await what_if.prepare(work, held.parts, run_ids, Instead(**instead), live=live, at=now())
    found = await what_if.compare(prepared)
    assert held.world.done == done
    return found


async def version(held: Harness, script: Any, **more: Any) -> str:
    """Another version of the agent, which serves nowhere."""
    document = {
        "apiVersion": "agentos/v1",
        "kind": "Agent",
        "metadata": {"name": "tester", "category": "tests", "owner": "testers"},
        "spec": {
            "instructions": "Follow the script.",
            "model": {"provider": "stub", "script": script},
            "skills": [{"name": one, "version": "1"} for one in ALL],
            "tier": "L4",
            **more,
        },
    }
    from agentos.apps.parts import Catalogue

    async with held.doors.open(held.organization) as work:
        (done,) = await agents.apply(
            work,
            manifest.read_documents([document]),
            Catalogue(held.parts.registry),
            held.models,
            by="author",
            at=now(),
        )
    return done.version.hash


async def test_a_version_that_does_the_same_is_the_same(held: Harness) -> None:
    run_id = await ran(held)
    found = await tried(held, run_id, version=await version(held, WORK, budgets={"turns": 9}))
    assert (found.same, found.diverged, found.unknown, found.micros_more) == (1, 0, 0, 0)
    assert found.results[0].asked == 0  # the model was told nothing else, so its recorded answers hold


async def test_a_version_that_says_something_else_is_told_by_its_first_step(held: Harness) -> None:
    run_id = await ran(held)
    other = [calls(("look", 1), ("note", 2)), {"text": "finished"}]
    found = await tried(held, run_id, version=await version(held, other))
    (one,) = found.results
    assert one.divergence is not None
    assert (one.divergence.step, one.divergence.field, one.divergence.kind) == ("t1", "text", Kind.TEXT)
    assert (one.whole, one.outcome_changed, one.asked) == (True, False, 2)


async def test_a_call_that_was_never_recorded_ends_what_can_be_known(held: Harness) -> None:
    run_id = await ran(held)
    found = await tried(held, run_id, model="stub/what_if_eager")
    (one,) = found.results
    assert one.divergence is not None
    assert (one.divergence.step, one.divergence.field) == ("t0", "calls")
    assert not one.whole
    assert "'send'" in one.why
    assert (found.unknown, found.micros_more) == (1, None)


async def test_another_model_that_takes_fewer_steps_is_followed_to_its_end(held: Harness) -> None:
    run_id = await ran(held)
    found = await tried(held, run_id, model="stub/what_if_brief")
    (one,) = found.results
    assert (one.whole, one.outcome_changed, one.divergence is not None) == (True, False, True)
    assert one.found.steps == 3


async def test_a_policy_that_denies_changes_what_the_model_is_told(held: Harness) -> None:
    run_id = await ran(held)
    found = await tried(held, run_id, policy=Proposal(organization=OrganizationPolicy(disabled=("note",))))
    (one,) = found.results
    assert one.divergence is not None
    assert (one.divergence.step, one.divergence.field, one.divergence.kind) == ("t0.c1", "verdict", Kind.POLICY)
    assert (one.divergence.recorded, one.divergence.found) == ("allow", "deny")
    assert one.whole


async def test_a_policy_that_asks_where_nobody_was_asked_leaves_the_outcome_unknown(held: Harness) -> None:
    run_id = await ran(held)
    found = await tried(held, run_id, policy=Proposal(organization=OrganizationPolicy(ask=("note",))))
    (one,) = found.results
    assert (one.whole, one.why) == (False, "a person would be asked")
    assert one.divergence is not None
    assert (one.divergence.step, one.divergence.field) == ("t0.c1", "verdict")


async def test_a_policy_that_no_longer_asks_goes_on_with_what_came_of_the_call(held: Harness) -> None:
    run_id = await ran(held, [calls(("pay", 3)), DONE])
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
        await approvals.answer(work, asked.id, person_id="p", handle="bob", approved=True, note="", at=now())
    await held.finish(run_id, 2)
    same = await tried(held, run_id, policy=Proposal())
    assert (same.same, same.unknown) == (1, 0)
    found = await tried(held, run_id, policy=Proposal(organization=OrganizationPolicy(trusted=("pay",))))
    (one,) = found.results
    assert one.divergence is not None
    assert (one.divergence.field, one.divergence.recorded, one.divergence.found) == ("verdict", "ask", "allow")
    assert (one.whole, one.outcome_changed) == (True, False)


async def test_denylists_and_budgets_are_tried_too(held: Harness) -> None:
    run_id = await ran(held)
    denied = await tried(held, run_id, policy=Proposal(denylist=Denylist(skills=("lo*",))))
    assert denied.results[0].divergence is not None
    assert denied.results[0].divergence.step == "t0.c0"
    short = await tried(held, run_id, policy=Proposal(budgets=Limits(steps=1)))
    assert short.outcomes_changed == 1
    assert short.results[0].found.code == "run_turns_used_up"


class Live(Stub):
    """A model that is none of ours: it costs money."""

    provider = "claude"
    instant = False
    local = False

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, question: Question, **_more: Any) -> Answer:
        self.asked += 1
        return Answer("done", "claude", question.model, usage=Usage(1000, 100))


async def test_a_live_model_is_asked_only_where_the_caller_says_so_and_counts(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held), Live()
    monkeypatch.setattr(held.models, "for_policy", lambda _policy: live)
    found = await tried(held, run_id, model="claude/some-model")
    assert (live.asked, found.unknown) == (0, 1)
    assert "not allowed" in found.results[0].why
    async with held.doors.open(held.organization) as work:
        price = Price("claude", "some-model", 3_000_000, 15_000_000)
        await budgets.set_price(work, "claude", "some-model", price, by="ann", at=now())
    found = await tried(held, run_id, live=True, model="claude/some-model")
    (one,) = found.results
    assert (live.asked, one.whole, one.asked, one.found.code) == (1, True, 1, "")
    assert one.micros_more == 4500
    async with held.doors.open(held.organization) as work:
        used = await budgets.used(work, on=None, at=now())
    assert {row.money for row in used} == {4500}
    await count(held)
    told = (await lines(held, Dimension.SOURCE))["replay"]
    assert (told.calls, told.money, told.input_tokens, told.output_tokens) == (1, 4500, 1000, 100)


class Away(Live):
    """One that breaks off."""

    async def ask(self, question: Question, **_more: Any) -> Answer:
        raise ModelUnavailable(f"{question.model} broke off", begun=True)


async def test_what_was_reserved_for_a_live_answer_that_never_came_is_counted_and_holds_no_room(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await ran(held)
    monkeypatch.setattr(held.models, "for_policy", lambda _policy: Away())
    await priced(held)
    async with held.doors.open(held.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Most(money=10**9), by="ann", at=now())
    held.parts.books.read.clear()
    found = await tried(held, run_id, live=True, model="claude/some-model")
    assert found.unknown == 1
    async with held.doors.open(held.organization) as work:
        for row in await budgets.used(work, on=None, at=now()):
            assert row.money > 0
            assert (row.reserved_money, row.reserved_tokens) == (0, 0)
    await count(held)
    assert (await lines(held, Dimension.SOURCE))["replay"].lost_calls == 1


async def test_what_a_lost_process_had_reserved_for_a_live_answer_is_counted_and_forgotten_later(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await ran(held)
    by_name(held, Away(), monkeypatch)
    await priced(held)
    async with held.doors.open(held.organization) as work:
        await budgets.set_budget(work, "", Period.DAY, Most(money=10**9), by="ann", at=now())
    held.parts.books.read.clear()

    async def lost(_self: Any) -> None:
        """The process ends before this."""

    monkeypatch.setattr(what_if._Counted, "end", lost)
    await tried(held, run_id, live=True, model="claude/some-model")
    soon = now() + what_if.BILLS_KEPT.kept + timedelta(minutes=5)
    assert await forget(held.doors.database, what_if.BILLS_KEPT, at=soon - timedelta(minutes=10)) == 0
    assert await forget(held.doors.database, what_if.BILLS_KEPT, at=soon) >= 1
    async with held.doors.open(held.organization) as work:
        for row in await budgets.used(work, on=None, at=now()):
            assert row.money > 0
            assert (row.reserved_money, row.reserved_tokens) == (0, 0)
        assert await work.first(text("SELECT 1 FROM budget_runs WHERE starts_with(run_id, 'replay_')")) is None


async def test_another_model_that_says_the_same_parts_by_what_it_cost(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held, [{"text": "done"}]), Live()
    by_name(held, live, monkeypatch)
    await priced(held)
    (one,) = (await tried(held, run_id, live=True, model="claude/some-model")).results
    assert one.divergence is not None
    assert (one.divergence.step, one.divergence.field, one.divergence.kind) == ("t0", "tokens", Kind.COST)
    assert (one.outcome_changed, one.micros_more) == (False, 4500)


RULED = {
    "provider": "stub",
    "script": WORK,
    "mode": "rules",
    "routing": {"rules": [{"use": {"provider": "claude", "name": "some-model"}}], "costlier": "allowed"},
}


async def priced(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        price = Price("claude", "some-model", 3_000_000, 15_000_000)
        await budgets.set_price(work, "claude", "some-model", price, by="ann", at=now())


def by_name(held: Harness, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held.models, "for_policy", lambda policy: Stub() if policy["provider"] == "stub" else live)


async def test_a_rule_that_leads_to_a_live_model_does_so_only_where_the_caller_says_so_and_counts(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held), Live()
    other = await version(held, WORK, model=RULED)
    by_name(held, live, monkeypatch)
    await priced(held)
    found = await tried(held, run_id, version=other)
    assert (live.asked, found.unknown) == (0, 1)
    assert "not allowed" in found.results[0].why
    found = await tried(held, run_id, live=True, version=other)
    assert (live.asked, found.unknown, found.micros_more) == (1, 0, 4500)


async def test_another_model_stands_in_the_place_of_the_whole_routing(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held, model=RULED | {"mode": "manual", "routing": {}, "fallback": []}), Live()
    by_name(held, live, monkeypatch)
    own = RULED | {"fallback": [{"provider": "claude", "name": "other"}], "context": 9}
    assert what_if._model(own, "stub/what_if_brief") == {"provider": "stub", "behaviour": "what_if_brief"}
    local = own | {"routing": {"rules": [{"when": {"private": True}, "local_only": True}]}}
    assert what_if._model(local, "claude/m")["routing"] == {"local_only": True}
    found = await tried(held, run_id, model="stub/what_if_brief")
    assert (live.asked, found.results[0].whole, found.results[0].found.steps) == (0, True, 3)


@pytest.mark.parametrize("kind", ["kill", "deny"])
async def test_a_live_question_obeys_the_stops_of_now(
    held: Harness, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run_id, live = await ran(held), Live()
    by_name(held, live, monkeypatch)
    await priced(held)
    async with held.doors.open(held.organization) as work:
        wanted = (
            Wanted(StopKind.KILL, StopScope.ORGANIZATION)
            if kind == "kill"
            else Wanted(StopKind.DENY, StopScope.PROVIDER, "claude")
        )
        stop = await stops.order(work, wanted, by="ann")
    found = await tried(held, run_id, live=True, model="claude/some-model")
    assert (live.asked, found.unknown) == (0, 1)
    assert stop.id in found.results[0].why
    async with held.doors.open(held.organization) as work:
        await stops.lift(work, stop.id, by="ann")
    await tried(held, run_id, live=True, model="claude/some-model")
    assert live.asked == 1


async def test_without_sight_of_the_stops_nothing_is_asked_and_nothing_is_claimed(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held), Live()
    by_name(held, live, monkeypatch)

    async def away(*_: Any) -> Any:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(what_if, "_in_force", away)
    with pytest.raises(DatabaseUnavailable):
        await tried(held, run_id, live=True, model="claude/some-model")
    assert live.asked == 0


async def test_what_a_model_is_told_anew_is_masked_by_the_rules_of_the_organization(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, live = await ran(held), Live()
    by_name(held, live, monkeypatch)
    await priced(held)
    asked: list[str] = []
    rules_of = privacy.rules_of

    async def watched(work: Any, held_: Any) -> Any:
        asked.append(work.organization)
        return await rules_of(work, held_)

    monkeypatch.setattr(privacy, "rules_of", watched)
    other = await version(held, WORK, model=RULED, privacy={"prompts": "mask"})
    await tried(held, run_id, live=True, version=other)
    assert (live.asked, asked) == (1, [held.organization])


async def test_what_says_nothing_to_try_is_refused(held: Harness) -> None:
    run_id = await ran(held)
    for instead in ({}, {"version": "1", "model": "a/b"}, {"model": "nothing"}):
        with pytest.raises(BadWhatIf):
            await tried(held, run_id, **instead)
    async with held.doors.open(held.organization) as work:
        for run_ids, deployment in (([], ""), (["a"], "b"), ([str(n) for n in range(201)], "")):
            with pytest.raises(BadWhatIf):
                await what_if.chosen(work, run_ids, deployment, 5)


async def test_the_last_runs_of_a_deployment_are_chosen(held: Harness) -> None:
    first = await ran(held)
    deployment = (await held.run(first)).deployment_id
    second = await held.start()
    await held.finish(second)
    async with held.doors.open(held.organization) as work:
        assert await what_if.chosen(work, [], deployment, 1) == [second]
        assert await what_if.chosen(work, [], deployment, 5) == [second, first]
