"""The breaker under any order of answers, failures, probes and time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, floats

from agentos.runtime.inference.breaker import Breaker, State

FAILURES, FIRST, LONGEST = 3, 1.0, 4.0


class Life(RuleBasedStateMachine):
    """A breaker beside what is said of it: failures in a row, and one probe at most."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(FAILURES, FIRST, LONGEST)
        self.time = 0.0
        self.opened = 0.0
        self.probing = False

    @rule(seconds=floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule()
    def a_call_is_answered(self) -> None:
        self.breaker.answered()
        assert self.breaker.state is State.CLOSED
        assert self.breaker.failures == 0

    @rule()
    def a_call_fails(self) -> None:
        before = (self.breaker.state, self.breaker.failures)
        opened = self.breaker.failed(self.time)
        assert opened == (before[0] is State.CLOSED and before[1] + 1 >= FAILURES)
        if opened:
            self.opened = self.time

    @rule()
    def somebody_comes(self) -> None:
        due = self.breaker.probe_due(self.time)
        if due:
            assert self.time >= self.opened + FIRST
            self.probing = True

    @precondition(lambda self: self.probing)
    @rule(answered=booleans())
    def the_probe_ends(self, answered: bool) -> None:
        half_open = self.breaker.state is State.HALF_OPEN
        self.breaker.probed(self.time, answered=answered)
        self.probing = False
        if half_open:
            assert self.breaker.state is (State.CLOSED if answered else State.OPEN)
            if not answered:
                self.opened = self.time

    @invariant()
    def a_probe_is_due_within_the_longest_wait(self) -> None:
        if self.breaker.state is State.OPEN:
            assert self.breaker.until <= self.opened + LONGEST

    @invariant()
    def a_breaker_is_half_open_only_while_a_probe_is_under_way(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            assert self.probing


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=200, deadline=None)


def test_after_a_probe_the_first_failure_opens_the_breaker_again_for_longer() -> None:
    breaker = Breaker(FAILURES, FIRST, LONGEST)
    for _ in range(FAILURES):
        breaker.failed(0.0)
    waits = []
    for _ in range(4):
        waits.append(breaker.wait)
        at = breaker.until
        assert breaker.probe_due(at)
        breaker.probed(at, answered=True)
        assert breaker.failed(at)
    assert waits == [1.0, 2.0, 4.0, 4.0]
