"""People are told once for each message, in spite of channels and workers that fail."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
import structlog

from agentos.adapters.notify import console
from agentos.control.approvals import links
from agentos.control.approvals.model import (
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalReminded,
    ApprovalRequested,
    ApprovalSlaMissed,
)
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.intake.inbox.model import MessageKind
from agentos.kernel.clock import now
from agentos.kernel.retention import forget
from agentos.operations.notifications import service
from agentos.operations.notifications.dispatch import KEPT
from agentos.operations.notifications.model import Medium, NotificationNotDead, NotificationState, NotificationUnknown
from tests.fakes.slack import buttons, failed, limited
from tests.operations.notifications.conftest import Asked, until

LEASE, MINUTE, DAY = timedelta(seconds=61), timedelta(minutes=1), timedelta(days=1)


async def test_a_fact_that_comes_again_sends_nothing_twice(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    one = await asked.ask(tell=False)
    await asked.tell(ApprovalRequested(one.run_id, one.id, one.skill, one.arguments_digest), again=3)
    await asked.turn()
    await asked.turn()
    (mail,) = asked.mail.taken
    message = await asked.the_message()
    assert (message.state, message.tries, message.channel) == (NotificationState.SENT, 1, Medium.EMAIL)
    assert mail["Message-ID"] == f"<{message.id}@example.org>"
    _, said = await asked.thread(one)
    assert [one.kind for one in said] == [MessageKind.NOTICE]


async def test_whoever_may_answer_is_told_and_nobody_else(asked: Asked) -> None:
    await asked.person("author", Role.ADMIN, email="author@example.com")
    await asked.person("bob", email="bob@example.com")
    await asked.person("carol")
    await asked.person("dave", Role.OPERATOR, email="dave@example.com")
    await asked.person("eve", email="eve@example.com")
    async with asked.doors.open(asked.organization) as work:
        await identity.change_person(work, "eve", role=None, enabled=False, by="tests", at=now())
    await asked.ask()
    await asked.turn()
    told = [(one.person, one.channel) for one in await asked.messages("sent")]
    assert sorted(told) == [("bob", Medium.EMAIL), ("carol", Medium.CONSOLE)]
    assert asked.mail.recipients == ["bob@example.com"]


async def test_when_nobody_may_answer_an_alert_says_so(asked: Asked) -> None:
    await asked.person("author", Role.ADMIN)
    one = await asked.ask()
    thread, said = await asked.thread(one)
    assert thread.alerted_at is not None
    assert [message.kind for message in said] == [MessageKind.NOTICE, MessageKind.ALERT]
    assert [fact["about"] for fact in await asked.facts("InboxAlerted")] == [one.id]


async def test_a_time_that_ran_out_is_an_alert_and_closes_the_thread(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    one = await asked.ask()
    await asked.turn()
    await asked.tell(ApprovalExpired(one.run_id, one.id), again=2)
    thread, said = await asked.thread(one)
    assert thread.closed_at is not None and thread.alerted_at is not None
    kinds = [message.kind for message in said]
    assert kinds == [MessageKind.NOTICE, MessageKind.ALERT, MessageKind.OUTCOME]
    await asked.turn()
    assert len(asked.mail.taken) == 2


async def test_a_missed_time_is_an_alert_in_the_thread_that_stays_open(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    one = await asked.ask()
    missed = ApprovalSlaMissed(one.run_id, one.id, one.deployment_id, one.skill, "S3")
    await asked.tell(missed, again=2)
    thread, said = await asked.thread(one)
    assert thread.closed_at is None and thread.alerted_at is not None
    assert [message.kind for message in said] == [MessageKind.NOTICE, MessageKind.ALERT]
    assert len(await asked.facts("InboxAlerted")) == 1


async def test_a_reminder_and_a_rung_of_the_ladder_reach_those_that_they_name(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    await asked.person("carol", email="carol@example.com")
    await asked.person("dana", Role.ADMIN, email="dana@example.com")
    one = await asked.ask(tell=False)
    first = ApprovalRequested(one.run_id, one.id, one.skill, one.arguments_digest, approvers=["bob"])
    await asked.tell(first, ApprovalReminded(one.run_id, one.id, 0, ["bob"]))
    await asked.tell(ApprovalEscalated(one.run_id, one.id, 1, ["role:admin"]))
    await asked.turn()
    told = sorted((message.person, message.kind.value) for message in await asked.messages("sent"))
    assert told == [("bob", "asked"), ("bob", "reminded"), ("dana", "escalated")]
    assert "still waits for your answer" in asked.mail.to("bob@example.com")[-1]["Subject"]


async def test_a_question_that_fell_away_raises_no_alert(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    one = await asked.ask()
    await asked.tell(ApprovalExpired(one.run_id, one.id, "run_ended"))
    thread, said = await asked.thread(one)
    assert thread.closed_at is not None and thread.alerted_at is None
    assert said[-1].text == "Expired (run_ended): it is denied."


async def test_a_log_has_no_link_that_answers(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = structlog.testing.CapturingLogger()
    monkeypatch.setattr(console, "log", structlog.wrap_logger(lines, [], structlog.BoundLogger))  # whatever others set
    await asked.person("bob")
    one = await asked.ask()
    await asked.turn()
    assert (await asked.the_message()).state is NotificationState.SENT
    written = str(lines.calls)
    assert one.id in written and links.PATH not in written


@pytest.mark.parametrize("answer", ["451 try later", "421 too busy"])
async def test_a_mail_server_that_says_not_now_is_asked_again_with_the_same_id(asked: Asked, answer: str) -> None:
    await asked.person("bob", email="bob@example.com")
    asked.mail.refuses = [answer]
    await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.tries, message.reason) == (NotificationState.PENDING, 1, f"smtp_{answer[:3]}")
    await asked.turn(timedelta(seconds=7))
    message = await asked.the_message()
    assert (message.state, message.tries) == (NotificationState.SENT, 2)
    assert [mail["Message-ID"] for mail in asked.mail.taken] == [f"<{message.id}@example.org>"]


async def test_a_recipient_refused_for_good_is_a_dead_letter_that_a_person_can_send_again(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    asked.mail.refuses = ["550 <bob@example.com>: no such user"]
    one = await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.reason) == (NotificationState.DEAD, "smtp_550")
    assert "example.com" not in message.said
    (fact,) = await asked.facts("NotificationGivenUp")
    assert (fact["notification_id"], fact["reason"]) == (message.id, "smtp_550")
    thread, said = await asked.thread(one)
    assert thread.alerted_at is not None and "bob could not be told by email" in said[-1].text
    async with asked.doors.open(asked.organization) as work:
        await service.retry(work, message.id, by="ada")
    await asked.turn()
    async with asked.doors.open(asked.organization) as work:
        with pytest.raises(NotificationNotDead):
            await service.retry(work, message.id, by="ada")
        with pytest.raises(NotificationUnknown):
            await service.retry(work, "ntf_1", by="ada")
    assert [mail["Message-ID"] for mail in asked.mail.taken] == [f"<{message.id}@example.org>"]


async def test_a_mail_server_that_hangs_is_left_and_tried_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.adapters.notify.mail.WAIT_SECONDS", 0.2)
    await asked.person("bob", email="bob@example.com")
    asked.mail.hangs = True
    await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.reason) == (NotificationState.PENDING, "smtp_timeout")
    asked.mail.hangs = False
    await asked.turn(timedelta(seconds=7))
    assert (await asked.the_message()).state is NotificationState.SENT


async def test_a_channel_that_never_answers_is_given_up_after_a_day(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    asked.mail.port = 9  # nothing listens there
    asked.notifications = asked.worker()
    await asked.ask()
    await asked.turn()
    assert (await asked.the_message()).reason == "smtp_unreachable"
    await asked.turn(DAY + MINUTE)
    message = await asked.the_message()
    assert (message.state, message.tries) == (NotificationState.DEAD, 2)


async def test_a_cut_after_the_mail_was_taken_sends_it_again_under_the_same_id(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    asked.mail.drops = 1
    await asked.ask()
    await asked.turn()
    assert (await asked.the_message()).state is NotificationState.PENDING
    await asked.turn(timedelta(seconds=7))
    assert len(asked.mail.taken) == 2
    assert len({mail["Message-ID"] for mail in asked.mail.taken}) == 1
    assert len(await asked.messages()) == 1


async def test_when_a_worker_dies_before_it_writes_it_down_another_sends_again_under_the_same_key(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked.person("bob", email="bob@example.com")
    await asked.ask()
    settle = service.settle

    async def die(*_given: Any, **_named: Any) -> None:
        raise RuntimeError("killed between sending and writing it down")

    monkeypatch.setattr(service, "settle", die)
    await asked.turn()
    monkeypatch.setattr(service, "settle", settle)
    other = asked.worker()
    await asked.turn(worker=other)
    assert len(asked.mail.taken) == 1  # the lease has not run out
    await asked.turn(LEASE, worker=other)
    assert len(asked.mail.taken) == 2
    assert len({mail["Message-ID"] for mail in asked.mail.taken}) == 1
    assert (await asked.the_message()).state is NotificationState.SENT


async def test_two_workers_send_a_message_once(asked: Asked) -> None:
    for number in range(20):
        await asked.person(f"p{number}", email=f"p{number}@example.com")
    await asked.ask()
    workers = [asked.worker() for _ in range(3)]
    for _ in range(4):
        await asyncio.gather(*(asked.turn(worker=worker) for worker in workers))
    assert sorted(asked.mail.recipients) == sorted(f"p{number}@example.com" for number in range(20))


async def test_what_was_decided_meanwhile_is_not_asked_any_more(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    await asked.person("carol")
    one = await asked.ask()
    await asked.answer(one, "carol")
    await asked.turn()
    states = {(m.person, m.kind.value): m.state for m in await asked.messages()}
    assert states["bob", "asked"] is NotificationState.MOOT
    assert [mail["Subject"] for mail in asked.mail.taken] == [f"[{asked.organization}] 1: pay waits no more"]
    thread, said = await asked.thread(one)
    assert thread.closed_at is not None and said[-1].text == "Approved by carol."


async def test_mail_shows_no_arguments_and_leads_to_them(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    one = await asked.ask({"account": "DE02120300000000202051", "n": 1})
    await asked.turn()
    (mail,) = asked.mail.taken
    text = mail.get_content()
    assert "DE02120300000000202051" not in mail.as_string()
    (address,) = [line for line in text.splitlines() if line.startswith("https://")]
    path, _, token = address.rpartition("/")
    assert path == "https://agents.example.org/api/v1/approvals/links"
    link = links.read(asked.signer, token)
    assert (link.organization, link.approval_id, link.handle) == (asked.organization, one.id, "bob")
    assert one.arguments_digest in text and "approve 1 because" in text
    assert mail["Auto-Submitted"] == "auto-generated"


async def test_slack_shows_all_arguments_as_text_with_buttons_that_name_the_approval(asked: Asked) -> None:
    await asked.connect()
    await asked.person("bob", slack="U0BOB")
    arguments = {"to": "```\n*Approved already* <!channel>", "zero": "a\u202eb"}
    one = await asked.ask(arguments)
    await asked.turn()
    (post,) = asked.slack.to("U0BOB")
    found = buttons(post)
    assert {name: found[name]["value"] for name in ("approve", "deny")} == {"approve": one.id, "deny": one.id}
    (shown,) = [block for block in post["blocks"] if block["type"] == "rich_text"]
    written = shown["elements"][0]["elements"][0]["text"]
    assert json.loads(written) == arguments and "\u202e" not in written
    assert post["metadata"]["event_payload"] == {"id": (await asked.the_message()).id}


@pytest.mark.parametrize("why", ["workspace", "masked", "long"])
async def test_where_not_all_may_be_shown_there_is_a_link_in_place_of_buttons(asked: Asked, why: str) -> None:
    await asked.connect(shows=why != "workspace")
    await asked.person("bob", slack="U0BOB")
    asked.masked = lambda about: why == "masked" and b"card" in about.arguments
    one = await asked.ask({"card": "4111111111111111", "more": "x" * (5000 if why == "long" else 1)})
    await asked.turn()
    (post,) = asked.slack.to("U0BOB")
    assert set(buttons(post)) == {"open"}
    link = links.read(asked.signer, buttons(post)["open"]["url"].rpartition("/")[2])
    assert (link.approval_id, link.handle) == (one.id, "bob")
    assert "4111111111111111" not in json.dumps(post)


async def test_once_decided_the_buttons_go_from_every_message_that_asked(asked: Asked) -> None:
    await asked.connect()
    for name in ("bob", "carol"):
        await asked.person(name, slack=f"U0{name.upper()}")
    one = await asked.ask()
    await asked.turn()
    await asked.answer(one, "bob", approved=False)
    await asked.turn()
    for user in ("U0BOB", "U0CAROL"):
        (post,) = asked.slack.to(user)
        assert set(buttons(post)) == {"open"}
        assert "It is denied." in json.dumps(post)


async def test_slack_is_waited_for_as_long_as_it_asks(asked: Asked) -> None:
    await asked.connect()
    await asked.person("bob", slack="U0BOB")
    asked.slack.instead = [lambda: limited(20)]
    await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.reason) == (NotificationState.PENDING, "slack_ratelimited")
    await asked.turn(timedelta(seconds=15))
    assert asked.slack.calls == 1
    await asked.turn(timedelta(seconds=30))
    assert (await asked.the_message()).state is NotificationState.SENT


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ("user_not_found", NotificationState.DEAD),
        ("token_revoked", NotificationState.PENDING),
        ("internal_error", NotificationState.PENDING),
    ],
)
async def test_what_slack_refuses_is_given_up_or_tried_again_as_it_says(
    asked: Asked, error: str, state: NotificationState
) -> None:
    await asked.connect()
    await asked.person("bob", slack="U0BOB")
    asked.slack.instead = [lambda: failed(error)]
    await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.reason) == (state, f"slack_{error}")
    assert message.tries == (0 if error == "token_revoked" else 1)


async def test_without_its_token_a_message_waits_with_the_reason_and_nothing_is_sent(asked: Asked) -> None:
    await asked.connect()
    await asked.person("bob", slack="U0BOB")
    token = asked.secrets.pop("slack-token")
    await asked.ask()
    await asked.turn()
    message = await asked.the_message()
    assert (message.state, message.tries, message.reason) == (NotificationState.PENDING, 0, "secret_missing")
    assert asked.slack.calls == 0
    asked.secrets["slack-token"] = token
    await asked.turn(6 * MINUTE)
    assert (await asked.the_message()).state is NotificationState.SENT


async def test_the_password_of_the_mail_server_is_named_and_a_missing_one_is_waited_for(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    await asked.ask()
    await asked.turn(worker=asked.worker(user="agentos"))
    message = await asked.the_message()
    assert (message.state, message.tries, message.reason) == (NotificationState.PENDING, 0, "secret_missing")


async def test_one_organizations_hanging_mail_server_delays_nobody_elses_messages(asked: Asked) -> None:
    for number in range(12):
        await asked.person(f"p{number}", email=f"p{number}@example.com")
    asked.mail.hangs = True
    await asked.ask()
    tasks = await asked.notifications.sender.begin(now())
    assert len(tasks) == 8
    assert await asked.worker().sender.begin(now()) == []  # the other four wait for their turn
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_messages_that_ended_long_ago_are_forgotten(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    await asked.ask()
    await asked.turn()
    await forget(asked.doors.database, KEPT, at=now() + KEPT.kept - DAY)
    assert len(await asked.messages()) == 1
    await forget(asked.doors.database, KEPT, at=now() + KEPT.kept + MINUTE)
    assert await asked.messages() == []


async def test_the_loop_sends_what_it_is_woken_for_and_ends_when_told(asked: Asked) -> None:
    await asked.person("bob", email="bob@example.com")
    stop = asyncio.Event()
    loop = asyncio.create_task(asked.notifications.send_for_ever(stop))
    await asked.ask()
    await until(lambda: len(asked.mail.taken) == 1)
    stop.set()
    await loop
