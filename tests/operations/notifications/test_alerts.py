"""Whoever can act is told what the platform found out by itself, each once: of budgets, canaries and rollbacks."""

from __future__ import annotations

from typing import Any

from agentos.control.budgets.model import BudgetOvershot, BudgetReached, Period
from agentos.intake.identity.model import Role
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import Message, MessageKind, Thread
from agentos.kernel.facts import Fact
from agentos.operations.notifications.model import Medium, NotificationKind
from agentos.operations.rollouts.model import CanaryBreached, RollbackValidated
from tests.control.budgets.purses import Purse, cap, priced
from tests.fakes.slack import buttons
from tests.operations.notifications.conftest import Asked

DAY = "2026-11-21"
FULL = BudgetReached("agent:tester", "day", DAY, "money", 100, 5_000_000, 4_990_000)
NEAR = BudgetReached("agent:tester", "day", DAY, "money", 75, 5_000_000, 3_800_000)


async def thread(asked: Asked, subject: str = "agent:tester") -> tuple[Thread, list[Message]]:
    async with asked.doors.open(asked.organization) as work:
        found = await inbox.about(work, f"budget:{subject}")
        return found, await inbox.messages(work, found.id, after="", most=500)


async def told(asked: Asked) -> list[Any]:
    return sorted((one.person, one.kind, one.channel) for one in await asked.messages())


async def test_whoever_may_set_budgets_is_told_that_a_cap_is_reached_and_nobody_else(asked: Asked) -> None:
    await asked.person("ann", Role.ADMIN, email="ann@example.com")
    await asked.person("amy", Role.ADMIN)
    await asked.person("bob", Role.APPROVER, email="bob@example.com")
    await asked.tell(FULL, again=3)
    assert await told(asked) == [
        ("amy", NotificationKind.ALERTED, Medium.CONSOLE),
        ("ann", NotificationKind.ALERTED, Medium.EMAIL),
    ]
    about, (said,) = await thread(asked)
    assert said.kind is MessageKind.ALERT and about.alerted_at is not None
    assert len(await asked.facts("InboxAlerted")) == 1
    assert "4.99 of 5.00 USD" in said.text and "agentos budgets set day --agent tester" in said.text
    await asked.turn()
    (mail,) = asked.mail.taken
    subject = f"[{asked.organization}] {about.number}: The budget of agent 'tester' needs you to look at it"
    assert mail["Subject"].strip() == subject
    assert "4.99 of 5.00 USD" in mail.get_payload().replace("=\r\n", "")
    assert f"https://agents.example.org/api/v1/inbox/threads/{about.id}" in mail.get_payload().replace("=\r\n", "")


async def test_three_quarters_of_a_cap_are_a_notice_and_each_period_and_cap_is_told_by_itself(asked: Asked) -> None:
    await asked.person("ann", Role.ADMIN, email="ann@example.com")
    await asked.tell(NEAR, again=2)
    about, (said,) = await thread(asked)
    assert (said.kind, about.alerted_at) == (MessageKind.NOTICE, None)
    assert said.text.startswith("75 % of the cap on money for the day from 2026-11-21 (UTC) are used up: 3.80 of 5.00")
    raised = BudgetReached("agent:tester", "day", DAY, "money", 75, 8_000_000, 6_000_000)
    tokens = BudgetReached("agent:tester", "month", "2026-11-01", "tokens", 75, 1000, 800)
    await asked.tell(FULL, raised, tokens, BudgetReached("organization", "day", DAY, "steps", 100, 9, 9))
    assert [one.kind for one in (await thread(asked))[1]] == [
        MessageKind.NOTICE,
        MessageKind.ALERT,
        MessageKind.NOTICE,
        MessageKind.NOTICE,
    ]
    assert [one.kind for one in (await thread(asked, "organization"))[1]] == [MessageKind.ALERT]
    await asked.turn()
    assert len(asked.mail.taken) == 5


async def test_runs_that_reach_their_own_cap_are_told_once_a_day(asked: Asked) -> None:
    await asked.person("ann", Role.ADMIN, email="ann@example.com")

    def of(run_id: str, percent: int, since: str = DAY, *, own: bool = True) -> Fact:
        return BudgetReached("agent:tester", "run", since, "money", percent, 100, 100, run_id, own)

    await asked.tell(of("run_1", 75), of("run_1", 100), of("run_2", 75), of("run_2", 100), of("run_3", 100))
    _, (said,) = await thread(asked)
    assert said.kind is MessageKind.ALERT and said.text.startswith("run_1 reached the cap on money that its version")
    await asked.tell(of("run_4", 100, own=False), of("run_5", 100, "2026-11-22"))
    assert len((await thread(asked))[1]) == len(await asked.messages()) == 3


async def test_a_hundred_overshoots_of_a_day_are_one_message_with_their_count(asked: Asked) -> None:
    await asked.person("ann", Role.ADMIN, email="ann@example.com")
    await priced(asked.doors, asked.organization)
    await cap(asked.doors, asked.organization, Period.DAY, money=10**9)
    purse = Purse(asked.doors, asked.organization, "run_1")
    for _ in range(12):
        await purse.reserve(60, 60)
        await purse.answer(130, 130)
    facts = [Fact.read("BudgetOvershot", one) for one in await asked.facts("BudgetOvershot")]
    assert len(facts) == 12
    for one in facts:
        assert isinstance(one, BudgetOvershot)
        await asked.tell(one, again=2)
    _, (said,) = await thread(asked)
    assert said.kind is MessageKind.ALERT and said.text.startswith("12 calls on 2026-11-21 (UTC) cost more")
    assert "run_1, step t11" in said.text
    await asked.turn()
    (mail,) = asked.mail.taken
    assert "12 calls on 2026-11-21" in mail.get_payload()
    assert len(await asked.facts("InboxAlerted")) == 1


async def test_an_overshoot_of_a_release_that_did_not_say_whose_it_was_is_left_to_the_metric(asked: Asked) -> None:
    await asked.tell(BudgetOvershot("run_1", "t0", 1, 2, 1, 2))
    assert await asked.messages() == []


async def test_an_alert_in_slack_leads_to_its_thread_and_asks_nothing(asked: Asked) -> None:
    await asked.connect()
    await asked.person("ann", Role.ADMIN, slack="U0ANN")
    await asked.tell(FULL)
    await asked.turn()
    (post,) = asked.slack.to("U0ANN")
    about, _ = await thread(asked)
    assert set(buttons(post)) == {"open"} and about.id in buttons(post)["open"]["url"]


async def test_an_alert_that_could_not_be_sent_is_a_dead_letter_and_says_so_in_its_thread(asked: Asked) -> None:
    await asked.person("ann", Role.ADMIN, email="ann@example.com")
    asked.mail.refuses = ["550 no such user"]
    await asked.tell(FULL)
    await asked.turn()
    _, said = await thread(asked)
    assert [one.kind for one in said] == [MessageKind.ALERT, MessageKind.ALERT]
    assert "ann could not be told by email" in said[-1].text


async def test_where_nobody_may_set_budgets_the_alert_stands_in_the_inbox(asked: Asked) -> None:
    await asked.person("bob")
    await asked.tell(FULL)
    assert (len((await thread(asked))[1]), await asked.messages()) == (1, [])


async def test_whoever_may_change_deployments_is_told_of_a_canary_that_was_rolled_back_with_its_figures(
    asked: Asked,
) -> None:
    await asked.person("ann", Role.OPERATOR)
    await asked.person("bob", Role.APPROVER)
    deployment = "dep_01m7y9hwceepyafgvbxtvt9bec"
    because = ["success_rate of the canary 0.2 (0.1 to 0.4, 20 samples)"]
    await asked.tell(CanaryBreached(deployment, "tester", 3, "sha256:abc", because), again=3)
    assert await told(asked) == [("ann", NotificationKind.ALERTED, Medium.CONSOLE)]
    async with asked.doors.open(asked.organization) as work:
        found = await inbox.about(work, deployment)
        (said,) = await inbox.messages(work, found.id, after="", most=500)
    assert said.kind is MessageKind.ALERT and because[0] in said.text


async def test_only_a_rollback_that_did_not_help_is_an_alert(asked: Asked) -> None:
    await asked.person("ann", Role.OPERATOR)
    deployment = "dep_01m7y9hwceepyafgvbxtvt9bec"
    for number, outcome in enumerate(("passed", "unknown", "failed"), 1):
        await asked.tell(RollbackValidated(deployment, number, "sha256:abc", outcome, {"success": outcome}), again=2)
    async with asked.doors.open(asked.organization) as work:
        found = await inbox.about(work, deployment)
        (said,) = await inbox.messages(work, found.id, after="", most=500)
    assert "revision 3" in said.text and "success failed" in said.text
