"""A message to a run is told to its model once, at the same turn whoever executes it, or said to be unread."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentos.adapters.llm.stub import Stub
from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalNotYours
from agentos.intake.identity.model import Caller, NotAllowed, Role
from agentos.intake.inbox import service as inbox
from agentos.intake.inbox.model import MessageReceived
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import KeyId, OrgId, RunId
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.inference import Answer, Message, Question
from agentos.runtime.runs import service
from agentos.runtime.runs.messages import Messages
from agentos.runtime.runs.model import MessagesUnread, RunEndedAlready, RunStatus, RunUnknown, TooManyMessages
from tests.runtime.runs.harness import DONE, Crash, Harness, calls, harness, losing

AFTER: Any = {"text": "after"}


class Ears(Stub):
    """The stub, which remembers what it was told; ``before`` is done before its next answer, ``after`` after it."""

    def __init__(self) -> None:
        self.told: list[tuple[Message, ...]] = []
        self.before: list[Callable[[], Awaitable[None]]] = []
        self.after: list[Callable[[], Awaitable[None]]] = []

    def for_policy(self, _policy: dict[str, Any]) -> Ears:
        return self

    async def ask(self, question: Question) -> Answer:
        self.told.append(question.messages)
        if self.before:
            await self.before.pop(0)()
        answer = await super().ask(question)
        if self.after:
            await self.after.pop(0)()
        return answer

    def said(self) -> list[list[str]]:
        """What people said, in each question."""
        return [[one.text for one in told[1:] if one.role == "user"] for told in self.told]


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    made = harness(database, organization)
    made.doors.hint = Messages(made.doors).hint
    return made


@pytest.fixture
def ears(held: Harness) -> Ears:
    model = Ears()
    held.parts.models = model
    return model


async def say(held: Harness, run_id: str, said: str, *, by: str = "ann", role: Role = Role.OPERATOR) -> str:
    """Write in the run's thread, which is opened where there is none; the message's id."""
    caller = Caller(held.organization, None, by, KeyId(""), role.permissions)
    async with held.doors.open(held.organization) as work:
        readers = Messages(held.doors)
        thread = await inbox.open_thread(work, title="t", about=run_id, by=by, readers=readers)
        return (await inbox.write(work, thread.id, said, caller=caller, readers=readers)).id


async def outcomes(held: Harness, run_id: str) -> list[str]:
    """What the platform said in the run's thread."""
    async with held.doors.open(held.organization) as work:
        thread = await inbox.about(work, run_id)
        return [one.text for one in await inbox.messages(work, thread.id, after="", most=99) if one.kind == "outcome"]


async def taken(held: Harness, run_id: RunId) -> list[tuple[str, list[str]]]:
    """The journal's entries of messages: key and texts."""
    return [(one["key"], one["content"]) for one in await held.steps(run_id) if one["kind"] == "message"]


async def crashed(held: Harness, run_id: RunId, number: int = 1) -> None:
    with pytest.raises(Crash):
        await held.segment(run_id, number)


async def crash() -> None:
    raise Crash


async def test_a_message_is_journaled_and_told_to_the_model_before_its_next_answer(held: Harness, ears: Ears) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run_id = await held.start()
    first = await say(held, run_id, "mind the gap")

    async def write(_given: dict[str, Any]) -> dict[str, Any]:
        await say(held, run_id, "and the step", by="bob")
        return {}

    held.world.next("look", write)
    run = await held.finish(run_id)
    assert (run.status, run.messages) == (RunStatus.COMPLETED, 2)
    assert ears.said() == [["mind the gap"], ["mind the gap", "and the step"]]
    assert [one.role for one in ears.told[1]] == ["user", "user", "assistant", "tool", "user"]
    steps = [(one["key"], one["kind"]) for one in await held.steps(run_id)]
    assert steps == [
        ("t0.said", "message"),
        ("t0", "model"),
        ("t0.c0", "skill"),
        ("t1.said", "message"),
        ("t1", "model"),
    ]
    entry = (await held.steps(run_id))[0]
    assert entry["meta"] == {"messages": [first], "by": ["ann"], "last": 1}
    assert entry["content"] == ["mind the gap"]


async def test_a_run_that_was_about_to_end_goes_on_when_somebody_has_written(held: Harness, ears: Ears) -> None:
    await held.agent([DONE, AFTER])
    run_id = await held.start()
    ears.before.append(lambda: _said(held, run_id, "one thing more"))
    run = await held.finish(run_id)
    assert run.output == b'"after"'
    assert ears.said() == [[], ["one thing more"]]
    assert await outcomes(held, run_id) == []


async def _said(held: Harness, run_id: str, said: str) -> None:
    await say(held, run_id, said)


async def test_the_turns_of_a_run_bound_how_often_it_goes_on_and_the_thread_is_told_of_the_rest(
    held: Harness, ears: Ears
) -> None:
    await held.agent([DONE, AFTER], budgets={"turns": 2})
    run_id = await held.start()
    ears.before += [lambda: _said(held, run_id, "first"), lambda: _said(held, run_id, "second")]
    run = await held.finish(run_id)
    assert (run.status, run.output) == (RunStatus.COMPLETED, b'"after"')
    assert ears.said() == [[], ["first"]]
    (told,) = await outcomes(held, run_id)
    assert told.endswith("was not read: the run ended before it was answered to")
    await Messages(held.doors).hint(held.organization, [MessagesUnread(run_id, 1)])  # the outbox delivers it again
    assert await outcomes(held, run_id) == [told]


async def test_a_message_that_was_taken_but_not_answered_to_counts_as_unread(held: Harness, ears: Ears) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    message_id = await say(held, run_id, "wait")

    async def cancel() -> None:
        async with held.doors.open(held.organization) as work:
            await service.order(work, run_id, "cancel", by="a")
        raise Crash

    ears.before.append(cancel)
    await crashed(held, run_id)
    run = await held.finish(run_id)
    assert run.status is RunStatus.CANCELLED
    assert [one.startswith(message_id) for one in await outcomes(held, run_id)] == [True]


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_message_stands_at_its_turn_after_a_takeover_and_what_came_meanwhile_at_the_next(
    held: Harness, ears: Ears, place: str
) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    await say(held, run_id, "first")
    getattr(ears, place).append(crash)
    await crashed(held, run_id)
    await say(held, run_id, "second")
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert await taken(held, run_id) == [("t0.said", ["first"]), ("t1.said", ["second"])]
    assert ears.said() == [["first"], ["first"], ["first", "second"]]
    assert ears.told[0] == ears.told[1]


async def test_a_worker_lost_before_the_message_was_journaled_leaves_it_to_the_next(
    held: Harness, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    await say(held, run_id, "first")
    with losing(held, monkeypatch, "journal_append"):
        await crashed(held, run_id)
    assert ears.told == []
    await held.finish(run_id)
    assert await taken(held, run_id) == [("t0.said", ["first"])]


async def test_the_same_message_delivered_again_is_handed_on_once(held: Harness, ears: Ears) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    message_id = await say(held, run_id, "once")
    async with held.doors.open(held.organization) as work:
        thread = await inbox.about(work, run_id)
    again = MessageReceived(thread.id, message_id, run_id, "api", "ann")
    messages = Messages(held.doors)
    await asyncio.gather(*(messages.hint(held.organization, [again]) for _ in range(3)))
    run = await held.finish(run_id)
    await messages.hint(held.organization, [again])
    assert (run.messages, ears.said(), await outcomes(held, run_id)) == (1, [["once"]], [])


async def test_a_run_that_is_over_takes_no_message_and_one_on_its_way_is_told_so(held: Harness, ears: Ears) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    held.doors.hint = None  # the fact stays on its way
    message_id = await say(held, run_id, "too late")
    await held.finish(run_id)
    with pytest.raises(RunEndedAlready, match="reads no messages"):
        await say(held, run_id, "later still")
    async with held.doors.open(held.organization) as work:
        thread = await inbox.about(work, run_id)
    late = MessageReceived(thread.id, message_id, run_id, "api", "ann")
    for _ in range(2):
        await Messages(held.doors).hint(held.organization, [late])
    (told,) = await outcomes(held, run_id)
    assert told.startswith(f"{message_id} was not read: the run is completed already")
    assert (await held.run(run_id)).messages == 0


async def test_only_a_run_of_the_organization_is_written_to_and_only_by_who_may_order_runs(
    held: Harness, database: Database, organization: OrgId
) -> None:
    await held.agent([DONE])
    run_id = await held.start()
    for said in ("hello", "approve 1"):
        with pytest.raises(RunUnknown):
            await say(held, ids.new("run"), said)
    for role in (Role.VIEWER, Role.APPROVER):
        with pytest.raises(NotAllowed, match=r"runs\.order"):
            await say(held, run_id, "hello", role=role)
    other = Harness(Doors(database), OrgId("nobodys"), held.world, held.parts, held.models)
    with pytest.raises(RunUnknown):
        async with other.doors.open(other.organization) as work:
            await Messages(other.doors).check(work, run_id)
    async with held.doors.open(organization) as work:
        assert await work.all(text("SELECT 1 FROM inbox_threads")) == []


async def test_a_run_reads_no_more_messages_than_it_may(
    held: Harness, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_MESSAGES", 2)
    await held.agent([DONE])
    run_id = await held.start()
    for said in ("one", "two"):
        await say(held, run_id, said)
    with pytest.raises(TooManyMessages):
        await say(held, run_id, "three")
    await held.finish(run_id)
    assert ears.said() == [["one", "two"]]


async def test_whoever_wrote_to_a_run_does_not_approve_what_it_asks_then(held: Harness, ears: Ears) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await say(held, run_id, "pay it", by="ann")
    await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
        assert asked.starters == ("author", "ann")
        with pytest.raises(ApprovalNotYours):
            await approvals.answer(work, asked.id, person_id="p", handle="ann", approved=True, note="", at=now())


async def test_what_people_write_is_masked_for_a_model_that_is_kept_from_it_and_counted_once(
    held: Harness, ears: Ears
) -> None:
    await held.agent([calls(("note", 1)), DONE], privacy={"prompts": "mask"})
    run_id = await held.start()
    whole = ["ask ann@example.com", "or bob@example.com", "or carl@example.com"]
    for said in whole:
        await say(held, run_id, said)
    ears.before.append(crash)
    await crashed(held, run_id)
    await say(held, run_id, "not eve@example.com")
    await held.finish(run_id)
    masked = ["ask [REDACTED: EMAIL]", "or [REDACTED: EMAIL]", "or [REDACTED: EMAIL]"]
    assert ears.said() == [masked, masked, [*masked, "not [REDACTED: EMAIL]"]]
    counts: Counter[str] = Counter()
    for step in await held.steps(run_id):
        counts.update(step["meta"].get("redacted") or {})
    assert counts == {"EMAIL": 4}
    assert (await taken(held, run_id))[0] == ("t0.said", whole)


async def test_facts_about_messages_hold_no_text(held: Harness, ears: Ears) -> None:
    await held.agent([DONE], budgets={"turns": 1})
    run_id = await held.start()
    ears.before.append(lambda: _said(held, run_id, "a word of mine"))
    await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        rows = await work.all(text("SELECT name, body::text AS body FROM outbox"))
    assert {"MessageReceived", "MessagesUnread"} <= {row.name for row in rows}
    assert not [row for row in rows if "a word of mine" in row.body]


async def test_a_run_that_nobody_writes_to_makes_no_statement_more(
    held: Harness, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("note", 1)), DONE])
    await held.finish(await held.start())  # the process has read now what the organization has set
    run_id = await held.start()
    opened: list[OrgId] = []
    real = held.doors.open

    def seen(organization: OrgId) -> Any:
        opened.append(organization)
        return real(organization)

    monkeypatch.setattr(held.doors, "open", seen)
    await held.segment(run_id)
    assert opened == []


EVENTS = (
    *("say", "say", "say", "segment"),
    *("crash before the entry", "crash before the answer", "crash after the answer"),
    *("say before the answer", "say within the call", "crash within the call"),
)


@dataclass
class Play:
    """A run to which people write, and what has come about so far."""

    held: Harness
    ears: Ears
    run_id: RunId
    written: list[str] = field(default_factory=list)
    number: int = 0

    async def say(self) -> None:
        try:
            await say(self.held, self.run_id, f"m{len(self.written)}")
        except RunEndedAlready:
            return
        self.written.append(f"m{len(self.written)}")

    async def happens(self, event: str) -> None:
        if event == "say":
            return await self.say()
        world = self.held.world
        with pytest.MonkeyPatch.context() as patched:
            if event == "crash before the entry":
                patched.setattr(inbox, "written", _crash_in)
            elif event == "crash before the answer":
                self.ears.before.append(crash)
            elif event == "crash after the answer":
                self.ears.after.append(crash)
            elif event == "say before the answer":
                self.ears.before.append(self.say)
            elif event == "say within the call":
                world.next("note", lambda given: self._say_within(given))
            elif event == "crash within the call":
                world.next("note", _crash_in)
            self.number += 1
            try:
                await self.held.segment(self.run_id, self.number)
            except Crash:
                self.number -= 1  # Temporal tries the segment again
            for planned in (self.ears.before, self.ears.after, world.acts):
                planned.clear()
        return None

    async def _say_within(self, given: dict[str, Any]) -> dict[str, Any]:
        await self.say()
        return given


def _crash_in(*_: Any) -> Any:
    raise Crash


async def play(held: Harness, ears: Ears, events: list[str]) -> None:
    ears.told.clear()
    one = Play(held, ears, await held.start())
    for event in [*events, "segment", "segment"]:
        await one.happens(event)
    assert (await held.run(one.run_id)).status is RunStatus.COMPLETED
    in_journal = [said for _, texts in await taken(held, one.run_id) for said in texts]
    unread = len(await outcomes(held, one.run_id)) if one.written else 0
    assert in_journal == one.written[: len(in_journal)], "each once, in the order in which they were handed on"
    assert len(in_journal) + unread == len(one.written), "taken, or said to be unread"
    place = {one["key"]: one["seq"] for one in await held.steps(one.run_id)}
    for key, _ in await taken(held, one.run_id):
        assert place[key] < place[key.removesuffix(".said")], "journaled before the answer that it was given for"
    for before, after in zip(ears.told, ears.told[1:], strict=False):
        assert after[: len(before)] == before, "what a model was told stays where it was told"
    assert ears.said()[-1] == in_journal, "the model was told all that was taken"


async def test_no_ordering_of_messages_and_crashes_tells_one_twice_or_never(held: Harness, ears: Ears) -> None:
    script = [calls(("note", 1)), DONE, calls(("note", 2)), *[DONE] * 5]
    await held.agent(script, budgets={"turns": 6})
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # to look for a shorter ordering takes longer than the test may
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.sampled_from(EVENTS), min_size=2, max_size=8))
    @example(["say", "crash before the entry", "say", "segment"])
    @example(["say", "crash before the answer", "say", "segment", "say"])
    @example(["crash within the call", "say", "say before the answer"])
    def every(events: list[str]) -> None:
        asyncio.run_coroutine_threadsafe(play(held, ears, events), loop).result(60)

    await asyncio.to_thread(every)
