"""Who waits is let in fairly, and nobody's turn is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from agentos.intake.requests.turns import TooManyWaiting, Turns
from agentos.kernel.errors import Unavailable, http_status
from agentos.kernel.ids import OrgId

NOISY, QUIET, OTHER = OrgId("noisy"), OrgId("quiet"), OrgId("other")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Door:
    """Requests that are served one step at a time."""

    def __init__(self, at_once: int, *, each: int = 1000, waiting: int = 1000, rest: float = 0.0) -> None:
        self.turns = Turns(at_once, each, waiting, rest)
        self.served: list[OrgId] = []
        self.inside: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def _request(self, organization: OrgId) -> None:
        done = asyncio.Event()
        async with self.turns.turn(organization):
            self.served.append(organization)
            self.inside.append(done)
            await done.wait()

    async def ask(self, organization: OrgId, times: int = 1) -> list[asyncio.Task[None]]:
        made = [asyncio.create_task(self._request(organization)) for _ in range(times)]
        self.tasks += made
        await settle()
        return made

    async def finish(self, times: int = 1) -> None:
        for _ in range(times):
            self.inside.pop(0).set()
            await settle()


async def test_no_more_than_the_bound_are_in_service() -> None:
    door = Door(3)
    await door.ask(NOISY, 10)
    assert len(door.inside) == 3
    await door.finish(7)
    assert len(door.inside) == 3
    await door.finish(3)
    assert len(door.served) == 10


async def test_the_next_turn_is_that_of_the_organization_that_waits_and_not_of_the_longest_queue() -> None:
    door = Door(1)
    await door.ask(NOISY, 50)
    await door.ask(QUIET)
    await door.finish(2)
    assert door.served == [NOISY, NOISY, QUIET]
    await door.finish(49)


async def test_an_organization_never_has_all_the_places() -> None:
    door = Door(4, each=2)
    await door.ask(NOISY, 50)
    assert door.served == [NOISY, NOISY]
    await door.ask(QUIET)
    await door.ask(OTHER, 3)
    assert door.served == [NOISY, NOISY, QUIET, OTHER]  # at once, beside the noisy one's two
    await door.finish(1)
    assert len(door.inside) == 4
    await door.finish(53)
    assert Counter(door.served) == {NOISY: 50, QUIET: 1, OTHER: 3}


async def test_organizations_take_turns_and_each_keeps_its_order() -> None:
    door = Door(1)
    await door.ask(NOISY, 5)
    await door.ask(QUIET, 2)
    await door.ask(OTHER, 2)
    await door.finish(9)
    assert door.served == [NOISY, NOISY, QUIET, OTHER, NOISY, QUIET, OTHER, NOISY, NOISY]


async def test_a_full_queue_refuses_its_own_organization_only() -> None:
    door = Door(1, waiting=2)
    await door.ask(NOISY, 3)
    with pytest.raises(TooManyWaiting) as refused:
        await asyncio.wait_for(door._request(NOISY), 1)
    assert http_status(refused.value) == 503
    assert isinstance(refused.value, Unavailable)
    assert refused.value.retry_after is not None
    await door.ask(QUIET)
    await door.finish(4)
    assert Counter(door.served) == {NOISY: 3, QUIET: 1}


async def test_whoever_goes_away_takes_no_turn_and_loses_none() -> None:
    door = Door(1)
    await door.ask(NOISY)
    gone = await door.ask(NOISY, 3)
    await door.ask(QUIET)
    for one in gone:
        one.cancel()
    await door.finish()  # before those who went away have said so
    await settle()
    assert door.served == [NOISY, QUIET]
    await door.finish()
    await door.ask(OTHER)
    assert door.served[-1] == OTHER
    await door.finish()


async def test_a_turn_that_came_to_somebody_who_just_left_is_passed_on() -> None:
    door = Door(1)
    await door.ask(NOISY)
    (second,) = await door.ask(NOISY)
    await door.ask(QUIET)
    door.inside.pop(0).set()
    while second not in [task for task in door.tasks if task.done()] and not door.inside:
        second.cancel()
        await asyncio.sleep(0)
    await settle()
    assert door.served[-1] == QUIET
    await door.finish()


@pytest.mark.parametrize("number", range(20))
async def test_whatever_happens_all_turns_come_back(number: int) -> None:
    chance = random.Random(number)
    turns = Turns(3, 2, 1000)
    inside = most = 0

    async def request(organization: OrgId) -> None:
        nonlocal inside, most
        async with turns.turn(organization):
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
            finally:
                inside -= 1

    tasks = []
    for _ in range(100):
        tasks.append(asyncio.create_task(request(chance.choice([NOISY, NOISY, QUIET, OTHER]))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == 0
    assert most == 3
    door = Door(1)
    door.turns = turns
    await door.ask(QUIET, 4)
    await door.ask(OTHER, 4)
    assert Counter(door.served) == {QUIET: 2, OTHER: 1}  # as many as at the beginning
    await door.finish(8)
    assert len(door.served) == 8


async def test_places_of_a_queue_rest_while_others_are_about_and_only_then() -> None:
    door = Door(8, each=1, rest=1000)
    await door.ask(NOISY, 3)
    await door.finish()
    assert door.served == [NOISY, NOISY]  # alone, there is nobody to rest for
    await door.ask(QUIET)
    await door.finish(2)
    assert door.served == [NOISY, NOISY, QUIET]  # the third of the noisy one waits for its place to have rested
    await door.ask(QUIET)
    assert door.served[-1] == QUIET  # which rests for nobody, as nothing of it waits
    for task in door.tasks:
        task.cancel()
    await settle()


async def test_who_has_nothing_waiting_does_not_rest() -> None:
    door = Door(8, each=1, rest=1000)
    await door.ask(NOISY)
    for _ in range(3):
        await door.ask(QUIET)
        assert door.served[-1] == QUIET
        door.inside.pop().set()
        await settle()
    await door.finish()
