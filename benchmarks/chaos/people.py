"""The people of the experiment, as a script: one answers approvals, one settles effects whose end nobody knows.

Whoever settles asks the receiver's own record first and says what it says, as a person would.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from benchmarks.chaos.client import Client, GaveUp, Refused
from benchmarks.chaos.receivers import Receivers

LOOK_SECONDS = 0.3
DENIED_SHARE = 0.15  # of what is asked; a no must stay without effect


class People:
    """An approver and an operator answer whatever waits for a person, until told to stop. What they said is kept."""

    def __init__(
        self, approver: Client, operator: Client, receivers: Receivers, numbers: dict[str, int], seed: int
    ) -> None:
        self.answers: dict[str, bool] = {}  # approval → yes or no
        self.denied: set[str] = set()  # runs whose last delivery was denied
        self.settled: dict[tuple[str, str], tuple[float, bool]] = {}  # run and send → when, and whether it happened
        self._approver = approver
        self._operator = operator
        self._receivers = receivers
        self._numbers = numbers  # run → number
        self._random = random.Random(seed)

    async def work(self) -> None:
        """Look for what waits, for ever."""
        while True:
            try:
                waiting = await self._operator.every("/api/v1/runs", status="waiting_approval")
                await asyncio.gather(*(self._serve(run) for run in waiting if run["waiting"]))
            except GaveUp:
                continue
            await asyncio.sleep(LOOK_SECONDS)

    async def _serve(self, run: dict[str, Any]) -> None:
        waiting = run["waiting"]
        if waiting["reason"] == "approval" and waiting["detail"] not in self.answers:
            await self._answer(run["id"], waiting["detail"])
        elif waiting["reason"] == "uncertain_effect" and (run["id"], waiting["step"]) not in self.settled:
            await self._settle(run["id"], waiting["step"])

    async def _answer(self, run_id: str, approval: str) -> None:
        yes = self._random.random() >= DENIED_SHARE
        self.answers[approval] = yes
        if not yes:
            self.denied.add(run_id)
        try:
            await self._approver.post(f"/api/v1/approvals/{approval}/{'approve' if yes else 'deny'}", {"note": "chaos"})
        except Refused as error:
            if error.code != "approval_decided":  # our own answer, whose receipt a kill took
                raise
        except GaveUp:
            del self.answers[approval]
            self.denied.discard(run_id)

    async def _settle(self, run_id: str, send: str) -> None:
        number = self._numbers.get(run_id)
        if number is None:  # its acceptance is not told yet
            return
        step = int(send.partition(".")[0].removeprefix("t"))
        place = self._receivers.took_plain(number, step)
        body = {"happened": place is not None, "value": None if place is None else {"taken": place}}
        self.settled[run_id, send] = (time.time(), place is not None)
        try:
            await self._operator.post(f"/api/v1/runs/{run_id}/effects/{send}/settle", body)
        except Refused as error:
            if error.code != "step_not_uncertain":
                raise
        except GaveUp:
            del self.settled[run_id, send]
