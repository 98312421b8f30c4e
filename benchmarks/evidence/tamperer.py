"""Random changes to a chain of some length, straight in its tables; the tests of the ledger make them, too."""

from __future__ import annotations

import random
from typing import Any, Final

LENGTH: Final = 30

_HEAD: Final = (
    "UPDATE ledger_heads h SET number = l.number, hash = l.hash FROM ledger l "
    "WHERE h.org = $1 AND l.org = $1 AND l.number = (SELECT max(number) FROM ledger WHERE org = $1)"
)
_COLUMNS: Final = ("org", "number", "hash", "entry", "at", "name", "key", "person", "run_id", "deployment_id")
_EDITS: Final = (
    "entry = set_byte(entry, $3 % length(entry), (get_byte(entry, $3 % length(entry)) + 1) % 256)",
    "hash = set_byte(hash, $3 % 32, (get_byte(hash, $3 % 32) + 1) % 256)",
    "at = at + make_interval(secs => 1 + $3)",
    "name = name || $3",
    "key = key || $3",
    "person = CASE WHEN $3 % 2 = 0 THEN NULL ELSE 'eve' || $3 END",
    "run_id = CASE WHEN $3 % 2 = 0 THEN NULL ELSE 'run_' || $3 END",
    "deployment_id = CASE WHEN $3 % 2 = 0 THEN NULL ELSE 'dep_' || $3 END",
)


async def tamper(driver: Any, organization: str, chance: random.Random) -> str:
    """Change the chain in one way of many, and tell which."""
    does = chance.choice([_edit, _delete, _insert, _reorder])
    return await does(driver, organization, chance)


async def _edit(driver: Any, organization: str, chance: random.Random) -> str:
    place, edit = chance.randint(1, LENGTH), chance.choice(_EDITS)
    await driver.execute(
        f"UPDATE ledger SET {edit.replace('$3', str(chance.randrange(10_000)))} WHERE org = $1 AND number = $2",
        organization,
        place,
    )
    return f"edit of {place}: {edit}"


async def _delete(driver: Any, organization: str, chance: random.Random) -> str:
    first = chance.randint(1, LENGTH)
    count = chance.choice([1, 1, 2, LENGTH])
    closed, headed = chance.random() < 0.5, chance.random() < 0.5
    await driver.execute(
        "DELETE FROM ledger WHERE org = $1 AND number BETWEEN $2 AND $3", organization, first, first + count - 1
    )
    if closed:  # the rest moves up
        await _shift(driver, organization, first, -count)
    if headed:
        await driver.execute(_HEAD, organization)
    return f"deletion of {count} from {first}, closed {closed}, headed {headed}"


async def _insert(driver: Any, organization: str, chance: random.Random) -> str:
    place, copied = chance.randint(1, LENGTH + 1), chance.randint(1, LENGTH)
    changed, headed = chance.random() < 0.5, chance.random() < 0.5
    values = ", ".join(
        "$2::bigint" if name == "number" else "entry || '\\x20'::bytea" if name == "entry" and changed else name
        for name in _COLUMNS
    )
    held = await driver.fetchrow("SELECT * FROM ledger WHERE org = $1 AND number = $2", organization, copied)
    await _shift(driver, organization, place, 1)
    now_at = copied + (copied >= place)
    assert held is not None
    await driver.execute(
        f"INSERT INTO ledger ({', '.join(_COLUMNS)}) SELECT {values} FROM ledger WHERE org = $1 AND number = $3",
        organization,
        place,
        now_at,
    )
    if headed:
        await driver.execute(_HEAD, organization)
    return f"insertion of {copied} at {place}, changed {changed}, headed {headed}"


async def _reorder(driver: Any, organization: str, chance: random.Random) -> str:
    one, other = chance.sample(range(1, LENGTH + 1), 2)
    for was, to in ((one, -1), (other, one), (-1, other)):
        await driver.execute("UPDATE ledger SET number = $3 WHERE org = $1 AND number = $2", organization, was, to)
    if chance.random() < 0.5:
        await driver.execute(_HEAD, organization)
    return f"{one} and {other} swapped"


async def _shift(driver: Any, organization: str, first: int, by: int) -> None:
    for step in (1_000_000, by - 1_000_000):
        least = first if step > 0 else 1_000_000
        await driver.execute(
            "UPDATE ledger SET number = number + $3 WHERE org = $1 AND number >= $2", organization, least, step
        )
