"""A question reaches people by console, mail and Slack, and is answered from Slack and from the inbox, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentos.intake.inbox.slack import MOST_BYTES
from tests.fakes import slack as fake
from tests.fakes.mail import MailServer, mail_server
from tests.fakes.slack import Slack, buttons, signed
from tests.journeys.conftest import Platform, running
from tests.journeys.test_command_line import Shell
from tests.journeys.test_identity import facts, person
from tests.journeys.test_privacy import annotated
from tests.runtime.runs.harness import DONE, calls

THREADS = "/api/v1/inbox/threads"
TEAMS = iter(f"T0JOURNEY{number}" for number in range(1000))


class Channels:
    """A platform with a mail server and Slack beside it, and three people who may answer."""

    def __init__(self, platform: Platform, mail: MailServer, slack: Slack) -> None:
        self.platform, self.mail, self.slack = platform, mail, slack

    async def ask(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """A run that asks: the run, its approval, and the thread about it."""
        await self.platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
        run = await self.platform.run()
        question = await self.platform.question(run["id"])
        return run, question, await self.thread(question["id"])

    async def thread(self, about: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while not (found := await self.items(THREADS, about=about)):
                await asyncio.sleep(0.03)
        return found[0]

    async def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = await self.platform.approver.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    async def said(self, thread: dict[str, Any], kind: str) -> list[str]:
        messages = await self.items(f"{THREADS}/{thread['id']}/messages")
        return [one["text"] for one in messages if one["kind"] == kind]

    async def press(self, choice: str, about: str, **given: Any) -> httpx.Response:
        body = self.slack.press(given.pop("user", "U0SLACKER"), choice, about)
        return await fake.send(self.platform.nobody, body, **given)


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while not (value := await found()):
            await asyncio.sleep(0.03)
    return value


async def changed(platform: Platform, handle: str, **addresses: str) -> None:
    answer = await platform.admin.patch(f"/api/v1/people/{handle}/addresses", json=addresses)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def channels(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Channels]:
    async with mail_server() as mail, fake.slack(next(TEAMS)) as slack:
        monkeypatch.setenv("AGENTOS_SMTP_HOST", "127.0.0.1")
        monkeypatch.setenv("AGENTOS_SMTP_PORT", str(mail.port))
        monkeypatch.setenv("AGENTOS_SMTP_TLS", "none")
        monkeypatch.setenv("AGENTOS_SLACK_API", slack.url)
        monkeypatch.setenv("AGENTOS_SECRET_SLACK_SIGNING", fake.SIGNING)
        monkeypatch.setenv("AGENTOS_SECRET_SLACK_TOKEN", fake.TOKEN)
        async with running(database_url, monkeypatch) as platform:
            body = {"team": slack.team, "signing_secret": "secret://slack-signing", "token": "secret://slack-token"}
            answer = await platform.admin.put("/api/v1/inbox/slack/workspace", json=body | {"shows": True})
            assert answer.status_code == 200, answer.text
            for handle in ("slacker", "mailer"):
                await person(platform, handle, "approver")
            await changed(platform, "slacker", slack="U0SLACKER")
            await changed(platform, "mailer", email="mailer@example.com")
            yield Channels(platform, mail, slack)


async def test_a_question_reaches_everybody_and_a_button_in_slack_lets_the_run_go_on_once(channels: Channels) -> None:
    run, question, thread = await channels.ask()
    told = await until(lambda: sent(channels, question["id"], 4))
    assert sorted((one["person"], one["channel"]) for one in told) == [
        ("admin", "console"),
        ("approver", "console"),
        ("mailer", "email"),
        ("slacker", "slack"),
    ]
    (mail,) = channels.mail.to("mailer@example.com")
    assert question["id"] in mail.get_content() and f"approve {thread['number']} because" in mail.get_content()
    (post,) = channels.slack.to("U0SLACKER")
    assert buttons(post)["approve"]["value"] == question["id"]
    body = channels.slack.press("U0SLACKER", "approve", question["id"])
    answers = [await fake.send(channels.platform.nobody, body) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 200]
    assert len({one.json()["message_id"] for one in answers}) == 1  # the same press, sent again
    await channels.platform.until(run["id"], "completed")
    assert channels.platform.world.count("pay") == 1
    outcomes = await until(lambda: both(channels, thread))
    assert sorted(outcomes) == ["Approved by slacker.", "This counted: it is approved."]
    found = await until(lambda: closed(channels, thread))
    assert found["state"] == "closed"
    await until(lambda: gone(channels, "approve"))  # the buttons went
    shown = (await channels.platform.approver.get(f"/api/v1/approvals/{question['id']}")).json()
    assert [one["handle"] for one in shown["answers"]] == ["slacker"]
    late = await channels.press("deny", question["id"])
    assert late.status_code == 200
    await until(lambda: contains(channels, thread, "This did not count"))
    await until(lambda: posts(channels, 2))
    assert "did not count" in str(channels.slack.to("U0SLACKER")[1]["blocks"])
    assert channels.platform.world.count("pay") == 1
    metrics = (await channels.platform.nobody.get("/metrics")).text
    assert 'agentos_notifications_total{channel="slack"' in metrics


async def sent(channels: Channels, about: str, many: int) -> list[dict[str, Any]]:
    found = await channels.items("/api/v1/notifications", about=about, state="sent")
    return found if len(found) >= many else []


async def both(channels: Channels, thread: dict[str, Any]) -> list[str]:
    found = await channels.said(thread, "outcome")
    return found if len(found) == 2 else []


async def closed(channels: Channels, thread: dict[str, Any]) -> dict[str, Any] | None:
    found = (await channels.platform.approver.get(f"{THREADS}/{thread['number']}")).json()
    return dict(found) if found["state"] == "closed" else None


async def gone(channels: Channels, button: str) -> bool:
    return all(button not in buttons(post) for post in channels.slack.to("U0SLACKER"))


async def posts(channels: Channels, many: int) -> bool:
    return len(channels.slack.to("U0SLACKER")) == many


async def contains(channels: Channels, thread: dict[str, Any], text: str) -> bool:
    return any(text in one for one in await channels.said(thread, "outcome"))


async def test_deny_because_in_the_inbox_denies_and_the_reason_is_kept(channels: Channels, tmp_path: Path) -> None:
    run, question, thread = await channels.ask()
    shell, number = Shell(channels.platform, tmp_path), thread["number"]
    assert [one["number"] for one in await shell("inbox", "list", by="approver")] == [number]
    refused = await shell("inbox", "say", str(number), f"approve {number} because I may", by="author", code=3)
    assert refused["code"] == "not_allowed"
    wrong = await shell("inbox", "say", str(number), f"deny {number} it is late", by="approver", code=2)
    assert wrong["code"] == "bad_answer"
    nothing = await shell("inbox", "say", str(number), "deny 4711 because it is late", by="approver", code=4)
    assert nothing["code"] == "thread_unknown"
    said = await shell("inbox", "say", str(number), f"deny {number} because it is late", by="approver")
    assert (said["kind"], said["approved"]) == ("answer", False)
    await channels.platform.until(run["id"], "completed")
    assert channels.platform.world.count("pay") == 0
    shown = (await channels.platform.approver.get(f"/api/v1/approvals/{question['id']}")).json()
    assert [(one["handle"], one["approved"], one["note"]) for one in shown["answers"]] == [
        ("approver", False, "it is late")
    ]
    await until(lambda: contains(channels, thread, "Denied by approver."))
    shown = await shell("inbox", "show", f"#{number}", by="approver")
    assert [one["kind"] for one in shown["messages"]][:2] == ["notice", "answer"]
    assert await facts(channels.platform, "AccessRefused") != []


async def test_what_people_write_to_a_run_is_read_by_it_before_it_goes_on(platform: Platform, tmp_path: Path) -> None:
    shell = Shell(platform, tmp_path)
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    sent = await shell("inbox", "send", "Mail ann@example.com first.", "--run", run["id"])
    assert (sent["about"], sent["message"]["kind"]) == (run["id"], "message")
    said = await shell("inbox", "say", str(sent["number"]), "Then stop.", by="admin")
    refused = await shell("inbox", "send", "Pay more.", "--run", run["id"], by="approver", code=3)
    assert refused["code"] == "not_allowed" and "runs.order" in refused["detail"]
    assert "not_allowed:runs.order" in {one["reason"] for one in await facts(platform, "AccessRefused")}

    async def counted() -> bool:
        return bool((await platform.author.get(f"/api/v1/runs/{run['id']}")).json()["messages"] == 2)

    await until(counted)
    await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    ended = await platform.until(run["id"], "completed")
    assert (ended["output"], platform.world.count("pay")) == ("done", 1)
    path = f"/api/v1/runs/{run['id']}/journal"
    (entry,) = [one for one in (await platform.admin.get(path)).json()["items"] if one["kind"] == "message"]
    assert (entry["key"], entry["content"]) == ("t1.said", ["Mail ann@example.com first.", "Then stop."])
    ids, by = [sent["message"]["id"], said["id"]], ["author", "admin"]
    assert entry["meta"] == {"messages": ids, "by": by, "last": 2}
    looker = await person(platform, "looker", "viewer")
    async with platform.acting(looker) as viewer:
        (masked,) = [one for one in (await viewer.get(path)).json()["items"] if one["kind"] == "message"]
    assert masked["content"] == ["Mail [REDACTED: EMAIL] first.", "Then stop."]
    late = await shell("inbox", "say", str(sent["number"]), "Too late.", code=5)
    assert late["code"] == "run_ended"
    unknown = await shell("inbox", "send", "Hello.", "--run", "run_01m7y3jdhbeycse6s7f0x9362p", code=4)
    assert unknown["code"] == "run_unknown"


async def test_a_message_that_a_run_ended_before_is_said_to_be_unread_in_its_thread(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    await platform.question(run["id"])
    body = {"title": "t", "text": "Wait for me.", "about": run["id"]}
    thread = (await platform.author.post(THREADS, json=body)).json()
    await platform.author.post(f"/api/v1/runs/{run['id']}/cancel")
    await platform.until(run["id"], "cancelled")

    async def told() -> list[str]:
        messages = (await platform.author.get(f"{THREADS}/{thread['id']}/messages")).json()["items"]
        return [one["text"] for one in messages if one["kind"] == "outcome"]

    (said,) = await until(told)
    assert said.startswith(f"{thread['message']['id']} was not read: the run")


async def test_the_link_in_a_mail_shows_when_it_is_opened_and_decides_once_when_posted(
    channels: Channels,
) -> None:
    run, question, thread = await channels.ask()
    await until(lambda: sent(channels, question["id"], 4))
    (mail,) = channels.mail.to("mailer@example.com")
    (address,) = [line for line in mail.get_content().splitlines() if line.startswith("http")]
    path, nobody = httpx.URL(address).path, channels.platform.nobody
    for _ in range(2):
        shown = await nobody.get(path)
        assert (shown.status_code, shown.json()["answering_as"], shown.json()["status"]) == (200, "mailer", "pending")
    assert (await nobody.post(path, json={"approved": True, "note": "by mail"})).status_code == 200
    await channels.platform.until(run["id"], "completed")
    assert channels.platform.world.count("pay") == 1
    again = await nobody.post(path, json={"approved": False})
    assert (again.status_code, again.json()["code"]) == (409, "approval_link_used")
    await until(lambda: contains(channels, thread, "Approved by mailer."))


async def test_a_name_that_a_schema_annotates_is_not_shown_in_slack(channels: Channels) -> None:
    annotated(channels.platform, "greet", "S3")
    await channels.platform.apply([calls(("greet", 4711)), DONE], ["greet"], tier="L3")
    question = await channels.platform.question((await channels.platform.run())["id"])
    await until(lambda: sent(channels, question["id"], 4))
    (post,) = channels.slack.to("U0SLACKER")
    assert set(buttons(post)) == {"open"}
    assert '"n": 4711' not in str(post)


async def test_talk_stays_talk_and_answers_only_what_asks(channels: Channels) -> None:
    author = channels.platform.author
    made = (await author.post(THREADS, json={"title": "Lunch", "text": "approve of pizza?"})).json()
    assert (made["message"]["kind"], made["about"]) == ("message", "")
    path = f"{THREADS}/{made['number']}/messages"
    asks = await channels.platform.approver.post(path, json={"text": f"approve {made['number']}"})
    assert (asks.status_code, asks.json()["code"]) == (409, "thread_asks_nothing")
    assert len(await channels.items(path)) == 1
    looker = await person(channels.platform, "looker", "viewer")
    async with channels.platform.acting(looker) as viewer:
        assert (await viewer.get(path)).status_code == 200
        assert (await viewer.post(path, json={"text": "me too"})).status_code == 403
    about = await author.post(THREADS, json={"title": "x", "text": "y", "about": "apr_01m7y3jdhbeycse6s7f0x9362p"})
    assert (about.status_code, about.json()["code"]) == (422, "malformed_id")


async def test_what_slack_did_not_sign_or_signed_long_ago_is_refused_and_kept(channels: Channels) -> None:
    run, question, _ = await channels.ask()
    nobody, slack = channels.platform.nobody, channels.slack
    good = slack.press("U0SLACKER", "approve", question["id"])
    other = slack.press("U0SLACKER", "approve", question["id"], pressed_at="1.2")
    cases = {
        "forged": (good, signed(good, secret="guessed")),
        "another body": (other, signed(good)),
        "301 s old": (good, signed(good, at=time.time() - 301)),
        "of tomorrow": (good, signed(good, at=time.time() + 86_400)),
        "unsigned": (good, {"Content-Type": "application/x-www-form-urlencoded"}),
        "no time": (good, signed(good) | {"X-Slack-Request-Timestamp": "soon"}),
        "another scheme": (good, signed(good) | {"X-Slack-Signature": "v1=" + "0" * 64}),
    }
    for name, (body, headers) in cases.items():
        answer = await nobody.post("/api/v1/inbox/slack", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "slack_refused"), name
        assert fake.SIGNING not in answer.text
    stranger = slack.press("U0SLACKER", "approve", question["id"], team="T0NOBODYS")
    answer = await fake.send(nobody, stranger)
    assert (answer.status_code, answer.json()["code"]) == (401, "slack_refused")
    kept = {one["reason"] for one in await facts(channels.platform, "AccessRefused")}
    assert {"slack_signature", "slack_late"} <= kept
    assert (await channels.platform.author.get(f"/api/v1/runs/{run['id']}")).json()["status"] == "waiting_approval"


async def test_a_slack_user_does_what_the_person_may_and_no_more(channels: Channels) -> None:
    run, question, _ = await channels.ask()
    platform = channels.platform
    unknown = await channels.press("approve", question["id"], user="U0UNKNOWN")
    assert (unknown.status_code, unknown.json()["code"]) == (403, "slack_user_unknown")
    await changed(platform, "author", slack="U0AUTHOR")
    operator = await channels.press("approve", question["id"], user="U0AUTHOR")
    assert (operator.status_code, operator.json()["code"]) == (403, "not_allowed")
    foreign = await channels.press("approve", "apr_01m7y3jdhbeycse6s7f0x9362p")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "thread_unknown")
    taken = await platform.admin.patch("/api/v1/people/approver/addresses", json={"slack": "U0SLACKER"})
    assert (taken.status_code, taken.json()["code"]) == (409, "address_taken")
    assert (await platform.admin.patch("/api/v1/people/slacker", json={"enabled": False})).status_code == 200
    disabled = await channels.press("approve", question["id"])
    assert (disabled.status_code, disabled.json()["code"]) == (403, "slack_user_unknown")
    reasons = {one["reason"] for one in await facts(platform, "AccessRefused")}
    assert {"slack_user_unknown", "not_allowed:approvals.answer", "slack_thread_unknown"} <= reasons
    link = await channels.press("open", "")
    assert (link.status_code, link.json()) == (200, {"message_id": None})
    assert (await platform.author.get(f"/api/v1/runs/{run['id']}")).json()["status"] == "waiting_approval"


async def test_what_is_no_press_of_a_button_is_refused(channels: Channels) -> None:
    press = channels.slack.press("U0SLACKER", "approve", "apr_1")
    for body, status, code in (
        (b"", 422, "bad_slack_action"),
        (b"payload=%7B%7D", 422, "bad_slack_action"),
        (b"payload=" + b"%5B" * 5000, 422, "bad_slack_action"),
        (press.replace(b"block_actions", b"view_submission"), 422, "bad_slack_action"),
        (b"\xff\xfe", 422, "bad_slack_action"),
        (press + b"&x=" + b"a" * MOST_BYTES, 413, "body_too_large"),
    ):
        answer = await channels.platform.nobody.post("/api/v1/inbox/slack", content=body, headers=signed(body))
        assert (answer.status_code, answer.json()["code"]) == (status, code), body[:40]


async def test_another_organizations_workspace_cannot_answer_or_be_taken(channels: Channels) -> None:
    _, question, _ = await channels.ask()
    platform, slack = channels.platform, channels.slack
    async with platform.acting(await platform.stranger()) as stranger:
        body = {"team": slack.team, "signing_secret": "secret://slack-signing", "token": "secret://slack-token"}
        taken = await stranger.put("/api/v1/inbox/slack/workspace", json=body)
        assert (taken.status_code, taken.json()["code"]) == (409, "slack_workspace_taken")
        body["team"] = next(TEAMS)
        assert (await stranger.put("/api/v1/inbox/slack/workspace", json=body)).status_code == 200
        changed = await stranger.patch("/api/v1/people/stranger/addresses", json={"slack": "U0SLACKER"})
        assert changed.status_code == 200
    foreign = slack.press("U0SLACKER", "approve", question["id"], team=body["team"])
    answer = await fake.send(platform.nobody, foreign)
    assert (answer.status_code, answer.json()["code"]) == (404, "thread_unknown")
    shown = (await platform.approver.get(f"/api/v1/approvals/{question['id']}")).json()
    assert (shown["status"], shown["answers"]) == ("pending", [])


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"team": "acme"}, "bad_slack_workspace"),
        ({"token": "xoxb-1"}, "bad_slack_workspace"),
        ({"signing_secret": fake.SIGNING}, "bad_slack_workspace"),
    ],
)
async def test_a_workspace_that_could_not_work_is_refused(platform: Platform, given: dict[str, Any], code: str) -> None:
    body = {"team": "T0ANOTHER", "signing_secret": "secret://a", "token": "secret://b"} | given
    answer = await platform.admin.put("/api/v1/inbox/slack/workspace", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert fake.SIGNING not in answer.text
    assert (await platform.admin.get("/api/v1/inbox/slack/workspace")).json() == {"workspace": None}


async def test_an_address_of_no_form_is_refused_and_only_admins_see_them(platform: Platform) -> None:
    path = "/api/v1/people/approver/addresses"
    for body in ({"email": "no address"}, {"email": "a@b\r\nBcc: c@d"}, {"slack": "bob"}):
        answer = await platform.admin.patch(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_address")
    assert (await platform.approver.patch(path, json={"slack": "U0SELF"})).status_code == 403
    assert (await platform.author.get(path)).status_code == 403
    await changed(platform, "approver", email="a@example.com", slack="U0APPROVER")
    await changed(platform, "approver", slack="")
    shown = {"handle": "approver", "email": "a@example.com", "slack": None}
    assert (await platform.admin.get(path)).json() == shown
    told = await facts(platform, "AddressesChanged")
    assert [one["channels"] for one in told] == [["email", "slack"], ["email"]]
    assert "example.com" not in str(told)
