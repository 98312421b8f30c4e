"""The skills of the chaos agents: deliver something to a receiver that honours keys, or to one that does not.

Each kind is there twice: once as a write that the tier allows, once as one that a person must approve. The timeout is
short, so that it is soon known of a lost worker's call that it is no longer on the wire.
"""

from __future__ import annotations

import os

import aiohttp

from agentos.kernel.errors import Unavailable
from agentos.runtime.skills import SkillContext, skill


class NotTaken(Unavailable):
    """The receiver did not take the delivery."""

    code = "chaos_not_taken"


@skill(version="1", effect="S1", idempotent=True, timeout="1s")
async def deliver_keyed(context: SkillContext, receiver: str, number: int, step: int) -> dict[str, int]:
    """Deliver to the receiver that honours keys."""
    return await _deliver(context, f"{receiver}/keyed", number, step)


@skill(version="1", effect="S3", idempotent=True, timeout="1s")
async def deliver_keyed_asked(context: SkillContext, receiver: str, number: int, step: int) -> dict[str, int]:
    """Deliver to the receiver that honours keys, if a person approves."""
    return await _deliver(context, f"{receiver}/keyed", number, step)


@skill(version="1", effect="S1", timeout="1s")
async def deliver_plain(context: SkillContext, receiver: str, number: int, step: int) -> dict[str, int]:
    """Deliver to the receiver that takes everything as new."""
    return await _deliver(context, f"{receiver}/plain", number, step)


@skill(version="1", effect="S3", timeout="1s")
async def deliver_plain_asked(context: SkillContext, receiver: str, number: int, step: int) -> dict[str, int]:
    """Deliver to the receiver that takes everything as new, if a person approves."""
    return await _deliver(context, f"{receiver}/plain", number, step)


async def _deliver(context: SkillContext, address: str, number: int, step: int) -> dict[str, int]:
    body = {"number": number, "step": step, "key": context.key, "pid": os.getpid()}
    try:
        async with aiohttp.ClientSession() as session, session.post(address, json=body) as answer:
            answer.raise_for_status()
            taken: dict[str, int] = await answer.json()
            return taken
    except aiohttp.ClientError as error:
        raise NotTaken(f"the receiver did not take it: {type(error).__name__}") from error
