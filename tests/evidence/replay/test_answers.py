"""What models answered before proposed caps and providers: which answers nobody would have asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from agentos.apps.reference.policy import PROPOSAL
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Period, Price
from agentos.control.policy.model import Tier, Verdict
from agentos.evidence.replay import service
from agentos.evidence.replay.answers import Answered, Answers, begins, replayed
from agentos.evidence.replay.model import Cap, Denylist, Limits, Proposal, Report
from agentos.evidence.replay.routes import Proposed
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.units import MICROS
from tests.evidence.replay.test_backtest import HOUR, done
from tests.runtime.runs.harness import Harness, harness

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def said(run: str, money: int | None, at: datetime, *, agent: str = "a", turn: int = 0, **more: Any) -> Answered:
    given: dict[str, Any] = {"deployment_id": f"dep_{agent}", "provider": "claude", "tokens": (money or 0) * 2, **more}
    return Answered(
        run_id=run, agent_id=agent, seq=turn * 3 + 1, step=f"t{turn}", at=at, model="m", money=money, **given
    )


def cuts(found: Answers) -> dict[str, tuple[str, str, int, int]]:
    return {run: (one.first.step, one.code, one.answers, one.money) for run, one in found.refused.items()}


def test_a_run_goes_no_further_than_its_cap_and_others_go_on() -> None:
    rows = [
        said("r1", 40, NOON),
        said("r2", 90, NOON + MINUTE),
        said("r1", 50, NOON + 2 * MINUTE, turn=1),
        said("r1", 20, NOON + 3 * MINUTE, turn=2),
        said("r1", 1, NOON + 4 * MINUTE, turn=3),  # it would have fitted, but the run was over
    ]
    found = replayed(rows, Proposal(budgets=Limits(money=100)), NOON)
    assert (found.looked, found.unpriced, cuts(found)) == (5, 0, {"r1": ("t2", "budget", 2, 21)})
    assert found.refused["r1"].reason == "each run: 0.00009 spent and 0.00002 more is over 0.0001 USD"
    assert found.cut("r1", 7) is None and found.cut("r1", 8) is not None and found.cut("r2", 8) is None
    assert cuts(replayed(rows, Proposal(budgets=Limits(tokens=180)), NOON)) == {"r1": ("t2", "budget", 2, 21)}


def test_what_a_refused_run_did_not_spend_is_left_to_the_next() -> None:
    rows = [
        said("r1", 60, NOON),
        said("r2", 50, NOON + MINUTE),
        said("r2", 10, NOON + 2 * MINUTE, turn=1),
        said("r3", 40, NOON + 3 * MINUTE),
    ]
    found = replayed(rows, Proposal(caps=(Cap(Period.DAY, money=100),)), NOON)
    assert cuts(found) == {"r2": ("t0", "budget", 2, 60)}


@pytest.mark.parametrize(
    ("cap", "refused"),
    [
        (Cap(Period.DAY, money=100), {"r2"}),
        (Cap(Period.MONTH, money=100), {"r2", "r3"}),
        (Cap(Period.MONTH, "a", money=100), {"r3"}),
        (Cap(Period.DAY, "a", money=59), {"r1", "r3"}),
        (Cap(Period.DAY, "b", tokens=99), {"r2"}),
        (Cap(Period.DAY, "c", money=0), set()),
    ],
)
def test_a_cap_is_about_its_agent_or_all_and_about_its_day_or_month(cap: Cap, refused: set[str]) -> None:
    rows = [said("r1", 60, NOON), said("r2", 50, NOON + MINUTE, agent="b"), said("r3", 60, NOON + DAY)]
    assert set(replayed(rows, Proposal(caps=(cap,)), NOON).refused) == refused


def test_what_was_spent_before_the_window_counts_and_is_not_judged() -> None:
    rows = [said("r0", 80, NOON - HOUR), said("r1", 30, NOON), said("r0", 5, NOON + MINUTE, turn=1)]
    found = replayed(rows, Proposal(caps=(Cap(Period.DAY, money=100),), budgets=Limits(money=82)), NOON)
    assert (found.looked, cuts(found)) == (2, {"r1": ("t0", "budget", 1, 30), "r0": ("t1", "budget", 1, 5)})


def test_the_window_is_widened_to_whole_periods() -> None:
    day, month = Cap(Period.DAY, money=1), Cap(Period.MONTH, money=1)
    assert begins(Proposal(), NOON) == NOON
    assert begins(Proposal(caps=(day,)), NOON) == datetime(2026, 11, 21, tzinfo=UTC)
    assert begins(Proposal(caps=(day, month)), NOON) == datetime(2026, 11, 1, tzinfo=UTC)


def test_no_model_of_a_denied_provider_would_have_been_asked() -> None:
    rows = [said("r1", 1, NOON, provider="openai"), said("r1", 2, NOON + MINUTE, turn=1), said("r2", 3, NOON + HOUR)]
    found = replayed(rows, Proposal(denylist=Denylist(providers=("openai",))), NOON)
    assert cuts(found) == {"r1": ("t0", "provider", 2, 3)}


def test_other_deployments_spend_but_are_not_told() -> None:
    rows = [said("r1", 60, NOON, agent="b"), said("r2", 60, NOON + MINUTE), said("r3", 60, NOON + HOUR, agent="b")]
    found = replayed(rows, Proposal(caps=(Cap(Period.DAY, money=100),)), NOON, deployment_id="dep_a")
    assert (found.looked, set(found.refused)) == (1, {"r2"})


def test_an_answer_without_a_cost_is_counted_as_such() -> None:
    found = replayed([said("r1", None, NOON)], Proposal(budgets=Limits(money=0)), NOON)
    assert (found.looked, found.unpriced, found.refused) == (1, 1, {})


def test_the_proposal_that_the_reference_shows_is_one() -> None:
    proposal = Proposed.model_validate(yaml.safe_load(PROPOSAL)).read()
    assert (proposal.tier, proposal.denylist.providers, proposal.budgets.money) == (Tier.L2, ("claude",), 500_000)
    assert proposal.caps == (
        Cap(Period.DAY, money=20_000_000),
        Cap(Period.MONTH, "tester", tokens=5_000_000),
    )


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Harness:
    held = harness(database, organization)
    price = Price("stub", "*", input=MICROS, output=MICROS)  # a millionth for each token
    async with held.doors.open(organization) as work:
        await budgets.set_price(work, "stub", "*", price, by="admin", at=now())
    return held


async def backtest(held: Harness, proposal: Proposal, **more: Any) -> tuple[Report, Answers | None]:
    async with held.doors.open(held.organization) as work:
        report, answers, _ = await service.backtest(work, proposal, now() - HOUR, now() + HOUR, **more)
    return report, answers


async def test_recorded_runs_would_have_ended_at_the_refused_answer(held: Harness) -> None:
    run_id = await done(held, ("note", 1), ("note", 2), ("note", 3))
    report, answers = await backtest(held, Proposal(budgets=Limits(money=0)))
    assert answers is not None and (answers.looked, answers.unpriced) == (4, 0)
    total = answers.refused[run_id].money
    assert (answers.refused[run_id].first.step, answers.refused[run_id].answers, total > 0) == ("t0", 4, True)
    assert (report.rules["deny", "budget"], len(report.stopped)) == (3, 3)
    report, answers = await backtest(held, Proposal(caps=(Cap(Period.DAY, "tester", money=total - 1),)))
    assert answers is not None and answers.refused[run_id].first.step == "t3"
    assert (dict(report.proposed), report.stopped) == ({"allow": 3}, [])  # all of its calls came before
    report, answers = await backtest(held, Proposal(caps=(Cap(Period.MONTH, money=total),)))
    assert answers is not None and answers.refused == {}


async def test_effects_behind_a_denied_provider_would_not_have_happened(held: Harness) -> None:
    run_id = await done(held, ("note", 1))
    report, answers = await backtest(held, Proposal(denylist=Denylist(providers=("stub",))))
    assert answers is not None and cuts(answers)[run_id][:3] == ("t0", "provider", 2)
    (stopped,) = report.stopped
    assert (stopped["verdict"], stopped["code"]) == (Verdict.DENY, "provider")
    assert stopped["reasons"] == ["the provider 'stub' is on the proposed denylist"]


async def test_what_says_nothing_of_models_judges_no_answers(held: Harness) -> None:
    await done(held, ("note", 1))
    assert (await backtest(held, Proposal(budgets=Limits(steps=1))))[1] is None


async def test_more_answers_than_one_look_takes_in_are_said_to_be_left_out(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_ANSWERS", 1)
    await done(held, ("note", 1))
    report, answers = await backtest(held, Proposal(budgets=Limits(money=10**12)))
    assert answers is not None and (answers.looked, report.complete, report.actions) == (1, False, 1)
