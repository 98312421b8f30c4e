"""When a delivery is tried again, who takes which fact, and the form in which it is told: decided without a clock."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agentos.evidence.subscriptions.model import (
    BACKOFF,
    BadSubscription,
    DeliveryGivenUp,
    Subscription,
    SubscriptionRemoved,
    checked_secret,
    checked_wants,
    event,
)
from agentos.kernel.ids import OrgId, SubscriptionId
from agentos.runtime.runs.model import RunEnded, RunOrdered

next_try, held_until, JITTER, TRIED_FOR = BACKOFF.next_try, BACKOFF.held_until, BACKOFF.jitter, BACKOFF.tried_for
FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
REMOVED = SubscriptionRemoved("sub_9", "billing", "author")


def subscription(*wants: str, **given: Any) -> Subscription:
    values = {"id": SubscriptionId("sub_1"), "name": "one", "url": "https://example.com/", "secret": "secret://hook"}
    values |= {"wants": wants, "enabled": True, "reason": "", "created_by": "x", "created_at": FIRST, "since": 100}
    return Subscription(**values | given)


def test_a_receiver_that_always_fails_is_tried_eight_times_in_a_day() -> None:
    tried, at = [], FIRST
    while True:
        tried.append(at - FIRST)
        due = next_try(len(tried), first=FIRST, at=at, luck=0)
        if due is None:
            break
        at = due
    waits = [b - a for a, b in itertools.pairwise(tried)]
    assert waits[:6] == [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR]
    assert tried[-1] == 24 * HOUR
    assert len(tried) == 8


def test_jitter_makes_a_wait_longer_by_a_fifth_at_most() -> None:
    assert next_try(2, first=FIRST, at=FIRST, luck=1) == FIRST + 5 * MINUTE * (1 + JITTER)


@pytest.mark.parametrize(
    ("failures", "asked", "wait"),
    [
        (1, 1 * SECOND, 5 * SECOND),  # a shorter one than ours is not what it asks for
        (1, 60 * SECOND, 60 * SECOND),
        (1, 2 * HOUR, 5 * MINUTE),  # up to the wait that would follow
        (2, 20 * MINUTE, 20 * MINUTE),
        (6, 12 * HOUR, 10 * HOUR),
    ],
)
def test_a_receiver_may_ask_for_a_longer_wait_up_to_the_next_step(
    failures: int, asked: timedelta, wait: timedelta
) -> None:
    assert next_try(failures, first=FIRST, at=FIRST, luck=0, asked=asked) == FIRST + wait


@given(
    failures=some.integers(1, 50),
    since=some.timedeltas(timedelta(), 2 * TRIED_FOR),
    luck=some.floats(0, 1),
    asked=some.none() | some.timedeltas(timedelta(), timedelta(days=400)),
)
def test_a_try_is_always_later_and_never_after_the_day(
    failures: int, since: timedelta, luck: float, asked: timedelta | None
) -> None:
    due = next_try(failures, first=FIRST, at=FIRST + since, luck=luck, asked=asked)
    if since >= TRIED_FOR:
        assert due is None
    else:
        assert due is not None
        assert FIRST + since < due <= FIRST + TRIED_FOR


def test_what_waits_for_a_secret_is_looked_at_every_five_minutes_for_a_day() -> None:
    assert held_until(first=FIRST, at=FIRST + HOUR) == FIRST + HOUR + 5 * MINUTE
    assert held_until(first=FIRST, at=FIRST + 24 * HOUR - MINUTE) == FIRST + 24 * HOUR
    assert held_until(first=FIRST, at=FIRST + 24 * HOUR) is None


@pytest.mark.parametrize(
    ("wants", "taken"),
    [(["RunEnded"], True), (["Run*"], True), (["*"], True), (["RunOrdered"], False), (["*Ended", "Key*"], True)],
)
def test_facts_are_wanted_by_name_or_by_glob(wants: list[str], taken: bool) -> None:
    ended = RunEnded("run_1", "dep_1", "tester", "sha256:1", "completed", "")
    assert subscription(*checked_wants(wants)).takes(ended, 100, FIRST) is taken


@pytest.mark.parametrize("wants", [[], ["Nothing"], ["run*"], ["Run[A]*"], ["Run?nded"], ["x" * 65], [""]])
def test_what_can_never_match_is_refused(wants: list[str]) -> None:
    with pytest.raises(BadSubscription):
        checked_wants(wants)


def test_wants_are_kept_sorted_and_once() -> None:
    assert checked_wants(["RunEnded", "Key*", "RunEnded"]) == ("Key*", "RunEnded")


@pytest.mark.parametrize("given", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret://", "secret://a b", "hook"])
def test_a_secret_that_is_not_a_reference_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(BadSubscription) as refused:
        checked_secret(given)
    assert given.removeprefix("secret://") == "" or given not in str(refused.value)


@pytest.mark.parametrize(
    ("position", "at", "taken"),
    [
        (99, FIRST - SECOND, False),
        (99, FIRST + SECOND, True),  # its transaction was open already, and it happened after
        (101, FIRST - SECOND, True),  # the clock was set back
    ],
)
def test_what_happened_before_a_subscription_is_not_taken(position: int, at: datetime, taken: bool) -> None:
    assert subscription("*").takes(REMOVED, position, at) is taken


def test_who_is_not_enabled_takes_nothing() -> None:
    assert not subscription("*", enabled=False).takes(REMOVED, 100, FIRST)


def test_two_broken_receivers_do_not_tell_of_each_other_without_end() -> None:
    def given_up(subscription_id: str, fact: str) -> DeliveryGivenUp:
        return DeliveryGivenUp("dlv_1", subscription_id, "1-1", fact, 8, "http_500")

    one = subscription("*")
    assert one.takes(given_up("sub_2", "RunEnded"), 100, FIRST)
    assert not one.takes(given_up("sub_1", "RunEnded"), 100, FIRST)
    assert not one.takes(given_up("sub_2", "DeliveryGivenUp"), 100, FIRST)


def test_an_event_is_a_cloud_event_of_the_facts_fields() -> None:
    fact = RunOrdered("run_1", "pause", "author", "")
    told = json.loads(event(OrgId("acme"), "812-44", fact, FIRST))
    assert told.pop("data") == {"run_id": "run_1", "order": "pause", "by": "author", "wake": ""}
    assert told == {
        "specversion": "1.0",
        "id": "812-44",
        "source": "/agentos/acme",
        "type": "agentos.RunOrdered",
        "subject": "run_1",
        "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json",
    }
