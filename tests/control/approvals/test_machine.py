"""Whatever people, the clock and changing policy do with an approval, in whatever order: it is as the model says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agentos.control.approvals import service
from agentos.control.approvals.model import Approval, ApprovalNotUsable
from agentos.kernel import ids
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from tests.control.approvals.asking import NOON, PEOPLE, Asking, asking

T = TypeVar("T")
HOUR = timedelta(hours=1)  # the time of each level of what is asked here, S3
LONGEST = timedelta(hours=24)
ANYBODY: tuple[str, ...] = ()
ROUTINGS: dict[str, tuple[list[tuple[tuple[str, ...], int]], list[str]]] = {
    "anybody": ([(ANYBODY, 1)], ["root"]),
    "named": ([(("ann",), 1)], ["bob", "root"]),
    "two of three": ([(("ann", "bob", "author"), 2)], ["carl"]),
    "chain": ([(("ann", "bob"), 1), (("bob", "carl", "ida"), 2)], ["root"]),
}
ANSWERING = ("author", "ann", "bob", "carl", "ida", "root", "otto")


@dataclass
class Model:
    """One approval as it ought to be. Its level and its end follow from the time alone."""

    rule: str
    stages: list[tuple[tuple[str, ...], int]]
    ladder: list[str]
    asked_at: Any
    level: int = 0
    stage: int = 0
    status: str = "pending"
    yes: dict[str, int] = field(default_factory=dict)
    handed: set[str] = field(default_factory=set)

    @property
    def expires_at(self) -> Any:
        return self.asked_at + min(LONGEST, HOUR * (len(self.ladder) + 1))

    def clock(self, at: Any) -> None:
        if self.status == "pending" and at >= self.expires_at:
            self.status = "expired"
        elif self.status == "pending":
            self.level = max(self.level, (at - self.asked_at) // HOUR)

    def answer(self, who: str, said: bool, at: Any) -> str:
        """The code of the error, or nothing."""
        if "answer" not in str(PEOPLE[who].permissions):
            return "not_allowed"
        if self.status != "pending" or at >= self.expires_at:
            return "approval_decided"
        if said and who == "author":
            return "approval_not_yours"
        names, needed = self.stages[self.stage]
        if names and who not in (*names, *self.ladder[: self.level], *self.handed):
            return "approval_not_for_you"
        if who in self.yes:
            return "approval_decided"
        if not said:
            self.status = "denied"
            return ""
        self.yes[who] = self.stage
        if list(self.yes.values()).count(self.stage) == needed:
            self.stage += 1
        if self.stage == len(self.stages):
            self.status = "approved"
        return ""

    def covers(self, name: str, stages: list[tuple[tuple[str, ...], int]]) -> bool:
        fewer = sum(one for _, one in self.stages) >= sum(one for _, one in stages)
        return self.rule == name and fewer and (self.stages == stages or all(not names for names, _ in stages))


class Approvals(RuleBasedStateMachine):
    """A step of a run that wants to act, people who answer, time that passes and an organization that changes rules."""

    loop: asyncio.AbstractEventLoop
    held: Asking

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @initialize(name=st.sampled_from(sorted(ROUTINGS)))
    def begin(self, name: str) -> None:
        self.at, self.step, self.rule_code, self.needed = NOON, ids.new("req"), "tier_matrix", 1
        self.models: list[Model] = []
        self.ids: list[str] = []
        self.executed = 0
        self.route(name)

    @rule(name=st.sampled_from(sorted(ROUTINGS)))
    def route(self, name: str) -> None:
        self.stages, self.ladder = ROUTINGS[name]
        stages = [{"approvers": list(names), "needed": needed} for names, needed in self.stages]
        self.do(self.held.route({"rules": [{"stages": stages}], "ladder": [[one] for one in self.ladder]}))

    @rule(code=st.sampled_from(["tier_matrix", "org_rule"]), needed=st.sampled_from([1, 2]))
    def policy_changes(self, code: str, needed: int) -> None:
        self.rule_code, self.needed = code, needed

    @rule(minutes=st.sampled_from([1, 1, 29, 30, 60, 240]))
    def time_passes(self, minutes: int) -> None:
        self.at += timedelta(minutes=minutes)

    @precondition(lambda self: not self.executed)
    @rule()
    def the_run_goes(self) -> None:
        """The run comes to its step: it asks, waits, acts or takes a no, and acts at most once."""
        short = self.needed - sum(needed for _, needed in self.stages)
        stages = [*self.stages, (ANYBODY, short)] if short > 0 else self.stages
        last = self.models[-1] if self.models else None
        if last is not None:
            last.clock(self.at)
        if last is None or (last.status in ("pending", "approved") and not last.covers(self.rule_code, stages)):
            if last is not None and last.status == "pending":
                last.status = "expired"
            self.models.append(Model(self.rule_code, stages, self.ladder, self.at))
        asked = self.do(
            self.held.ask(at=self.at, step=self.step, rule=self.rule_code, needed=self.needed, longest=LONGEST)
        )
        if len(self.ids) < len(self.models):
            self.ids.append(asked.id)
        assert asked.id == self.ids[-1]
        assert asked.round == len(self.models)
        if asked.status == "approved":
            self.do(self._use(asked))
            self.executed += 1
            with pytest.raises(ApprovalNotUsable):
                self.do(self._use(asked))

    @precondition(lambda self: self.ids)
    @rule(who=st.sampled_from(ANSWERING), said=st.sampled_from([True, True, True, False]), which=st.integers(0, 3))
    def somebody_answers(self, who: str, said: bool, which: int) -> None:
        number = -1 if which else 0  # mostly the last question, also one that was overtaken
        expected = self.models[number].answer(who, said, self.at)
        try:
            self.do(self.held.answer(self.ids[number], who, said, at=self.at))
        except AgentOSError as error:
            assert error.code == expected
        else:
            assert not expected

    @precondition(lambda self: self.ids)
    @rule(number=st.integers(0, 6))
    def somebody_who_may_says_yes(self, number: int) -> None:
        able = [who for who in ANSWERING if not deepcopy(self.models[-1]).answer(who, True, self.at)]
        if able:
            self.somebody_answers(able[number % len(able)], True, 1)

    @precondition(lambda self: self.ids)
    @rule()
    def the_clock_looks(self) -> None:
        self.models[-1].clock(self.at)
        self.do(self.held.advance(self.ids[-1], self.at))

    @precondition(lambda self: self.ids)
    @rule(to=st.sampled_from(["bob", "carl"]))
    def somebody_reroutes(self, to: str) -> None:
        pending = self.models[-1].status == "pending"
        try:
            self.do(self.held.reroute(approval_id=self.ids[-1], to=[to], at=self.at))
        except AgentOSError as error:
            assert (pending, error.code) == (False, "approval_decided")
        else:
            assert pending
            self.models[-1].handed.add(to)

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        for name, model in zip(getattr(self, "ids", ()), getattr(self, "models", ()), strict=True):
            asked = self.do(self.held.get(name))
            stage = min(model.stage, len(model.stages) - 1)
            assert (asked.status, asked.level, asked.stage) == (model.status, model.level, stage)
            if asked.status == "approved":
                assert "author" not in model.yes
                assert len(model.yes) == asked.needed

    async def _use(self, asked: Approval) -> None:
        async with self.held.doors.open(self.held.organization) as work:
            from dataclasses import replace

            question = replace(self.held.question, step=self.step, rule=self.rule_code, needed=self.needed)
            await service.consume(work, asked, question, at=self.at)


async def test_approvals_are_as_their_model_says(database: Database, organization: OrgId) -> None:
    Approvals.loop, Approvals.held = asyncio.get_running_loop(), await asking(database, organization)
    bounded = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, Approvals, settings=bounded)
