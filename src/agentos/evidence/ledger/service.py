"""Look for entries, and hold a chain against its key, its columns and its anchors."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Final

from agentos.control.stops import service as stops
from agentos.evidence.ledger import past, store
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chain import Links, believed, position
from agentos.evidence.ledger.model import (
    SET_ASIDE,
    Anchor,
    Broken,
    EntryUnknown,
    Held,
    LedgerVerified,
    MomentsSwapped,
    NotYet,
    Row,
    Search,
    Seen,
    Tampering,
    Verified,
)
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKey, LedgerKeys
from agentos.kernel.unit_of_work import Doors, UnitOfWork

UNKNOWN: Final = "unknown"  # what a look has found where a key is absent
UNANCHORED: Final = timedelta(seconds=60)  # ends are anchored every five seconds; for so long a disk may be away
# Between two parts of one look: what was verified long ago proves nothing of now, and a look over all of it is kept.
GOOD_FOR: Final = timedelta(hours=1)
PAGE: Final = 2000  # entries read at once: about 1 MB, and 20 ms of looking at them


async def verify(
    doors: Doors, organization: OrgId, keys: LedgerKeys, anchors: Anchors | None, *, after: Seen, most: int, by: str
) -> tuple[Verified, Seen | None]:
    """Verify at most so many entries after those that were verified before; the anchors when the end is reached.

    Also what to go on with; None at the end. A fact that is amiss breaks no link, so that one goes on behind it. What
    was found of the whole is kept, and is a fact. Raises EntryUnknown (NotFound), AnchorsUnusable (Unavailable).
    """
    async with doors.open(organization) as work:
        found = await look(await work.driver(), organization, keys, anchors, after=after.through, most=most)
        broken, amiss = found.broken, after.amiss
        unread = after.unread or next((one.first for one in found.unread), 0)
        if broken is not None and broken.kind is Tampering.FACT:
            return found, Seen(broken.number, amiss or broken.number, unread)
        if broken is None and not found.is_whole:
            return found, Seen(found.through, amiss, unread)
        told = ""
        if broken is not None:
            told = f"{broken.kind}:{broken.number}"
        elif amiss or unread:
            told = f"{Tampering.FACT}:{amiss}" if amiss else f"{UNKNOWN}:{unread}"
        await work.publish(LedgerVerified(organization, found.entries, told, by))
    await store.keep_verified(doors.database, organization, found.through, told)
    return found, None


async def look(
    driver: Any,
    organization: str,
    keys: LedgerKeys,
    anchors: Anchors | None,
    *,
    after: int = 0,
    most: int | None = None,
) -> Verified:
    """The first link that does not hold, read page by page over one of the driver's connections. Memory is bounded.

    Raises EntryUnknown (NotFound), AnchorsUnusable (Unavailable).
    """
    await asyncio.to_thread(keys.look_again)
    links = Links(keys, organization, await _row(driver, organization, after) if after else None)
    wrong, broken, is_whole, entries = None, None, False, 0
    while wrong is None and broken is None and not is_whole:
        async with aclosing(_pages(driver, organization, links.number, min(PAGE, most or PAGE))) as pages:
            async for page in pages:
                if (wrong := links.take(page)) is not None or (most is not None and links.number - after >= most):
                    break
        number, entries, broken = await _end(driver, organization, links)
        if most is not None and links.number - after >= most and links.number < number:
            break
        is_whole = wrong is None and links.number >= number
    if wrong is not None:
        elsewhere = await _stands_elsewhere(driver, organization, links)
        broken = links.told(Row(*wrong), entries=entries, is_elsewhere=elsewhere)
    held = Held()
    if anchors is not None and (is_whole or (broken is not None and broken.kind is not Tampering.FACT)):
        held, cut = await _anchored(driver, organization, anchors, entries)
        if broken is None and (cut is None or cut.kind is Tampering.GAP):
            cut = await _unanchored(driver, organization, held.last) or cut
        broken = broken or cut
    if broken is None and is_whole and entries:
        broken = await _passed(driver, organization, keys, entries)
    return Verified(links.number - after, links.number, entries, is_whole, links.earlier, broken, links.unread, held)


async def search(
    work: UnitOfWork, wanted: Search, *, beyond: int | None, is_oldest_first: bool, most: int
) -> list[Row]:
    """Entries that fit every word of the search; ``beyond``: the number that a page ended with."""
    from_here = beyond if beyond is not None else 0 if is_oldest_first else 2**62
    return await store.search(work, wanted, beyond=from_here, is_oldest_first=is_oldest_first, most=most)


async def entry(work: UnitOfWork, number: int) -> Row:
    """One entry. Raises EntryUnknown (NotFound)."""
    found = await store.entry(work, number)
    if found is None:
        raise EntryUnknown(f"there is no entry {number}", then="See 'agentos audit search'.")
    return found


async def about(
    work: UnitOfWork, keys: LedgerKeys | None, names: Sequence[str], ids: Sequence[str]
) -> list[tuple[int, str, str, bytes]]:
    """The newest entries of these facts about these ids: number, fact, id and body.

    Not of what was amiss, nor of what is not as it was chained.
    """
    rows = await store.about(work, names, ids, PAGE)
    await _look_again(keys)
    told = believed(keys, work.organization, rows)
    return [(row.number, row.name, row.key, body) for row, body in told if body is not None]


async def state(work: UnitOfWork, keys: LedgerKeys | None, *, at: datetime, now: datetime) -> dict[str, Any]:
    """What was in force at a moment, kind by kind. Memory is bounded by that. Raises NotYet (Invalid).

    Where the ledger had no entry yet everything is unknown; where it does not begin with the founding of its
    organization it is not complete: what was set before and not changed since is not told. Entries that are not as they
    were chained, and facts that were amiss, are passed over and counted (``passed_over``).
    """
    if at > now:
        raise NotYet(f"{at.isoformat()} has not come yet", where="at", then="Ask about a moment that is past.")
    await _look_again(keys)
    first, last = await store.span(work)
    begins = await store.entry(work, 1)
    told_of = [] if begins is None else list(believed(keys, work.organization, [begins]))
    is_complete = [row.name for row, body in told_of if body is not None] == [past.BEGINS]
    told = past.moment(at, first, last, is_complete=is_complete)
    if first is None or at < first:
        return told | {"passed_over": past.UNKNOWN} | dict.fromkeys(past.KINDS, past.UNKNOWN)
    found, passed_over, after = past.nothing(), 0, 0
    while rows := await store.told_until(work, list(past.CHANGES), at, after=after, most=PAGE):
        good = [(row.name, body) for row, body in believed(keys, work.organization, rows) if body is not None]
        past.go_on(found, good)
        passed_over, after = passed_over + len(rows) - len(good), rows[-1].number
    for one in await stops.of_everybody(work, at=at):
        found["stops"][one.id] = {
            "kind": one.kind.value,
            "scope": one.scope.value,
            "target": one.target,
            "ordered_by": one.ordered_by,
        }
    return told | {"passed_over": passed_over} | found


async def difference(
    work: UnitOfWork, keys: LedgerKeys | None, *, before: datetime, after: datetime, now: datetime
) -> dict[str, Any]:
    """What changed between two moments; unknown where the ledger does not reach back to the first.

    Raises NotYet or MomentsSwapped (Invalid).
    """
    if before > after:
        raise MomentsSwapped(
            f"{before.isoformat()} is after {after.isoformat()}", where="before", then="Name the earlier one first."
        )
    one = await state(work, keys, at=before, now=now)
    other = await state(work, keys, at=after, now=now)
    reach = ("ledger_from", "ledger_to", "is_complete", "model_switches", "passed_over")
    told = {"before": one["at"], "after": other["at"], **{name: other[name] for name in reach}}
    if past.UNKNOWN in (one["deployments"], other["deployments"]):
        return {**told, "changes": past.UNKNOWN}
    return {**told, "changes": past.changed(one, other)}


async def standing(database: Database, anchors: Anchors | None) -> dict[str, Any]:
    """How the ledger does, over all organizations: figures that nobody has are unknown."""
    chains, waiting = await store.counted(database)
    last, unusable = ({}, None) if anchors is None else await asyncio.to_thread(anchors.last)
    anchored = {org: one.number for org, one in last.items()}
    return {
        "chains": chains,
        "waiting": waiting.facts,
        "waiting_seconds": waiting.seconds,
        "is_astray": waiting.is_astray,
        "set_aside": waiting.set_aside,
        "unanchored_seconds": await store.unanchored_seconds(database, anchored),
        "anchors_unusable": "" if unusable is None else unusable.what,
        "anchored_at": max((one.at for one in last.values()), default=None),
    }


def token(keys: LedgerKeys, organization: str, seen: Seen, *, at: datetime) -> str:
    """What a caller goes on with who had so much verified just now."""
    return _token(keys.now, organization, seen, int(at.timestamp()))


def seen_by(keys: LedgerKeys, organization: str, said: str, *, at: datetime) -> Seen | None:
    """What a token says was verified; None for one that was given out by none of these keys, or too long ago."""
    *parts, _ = said.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return None
    *numbers, given = map(int, parts)
    seen = Seen(*numbers)
    if at.timestamp() - given > GOOD_FOR.total_seconds():
        return None
    told = (_token(key, organization, seen, given).encode() for key in keys.every)
    return seen if any(hmac.compare_digest(said.encode(), one) for one in told) else None


def _token(key: LedgerKey, organization: str, seen: Seen, given: int) -> str:
    said = ".".join(map(str, (*seen, given)))
    return f"{said}.{hmac.digest(key.chain(organization), f'verified {said}'.encode(), 'sha256').hex()[:32]}"


async def _pages(driver: Any, organization: str, after: int, size: int = PAGE) -> AsyncGenerator[list[Row]]:
    """Pages of entries; while one is looked at, the server is at work on the next."""
    page = await driver.fetch(store.PAGE, organization, after, size)
    while page:
        asked = asyncio.ensure_future(driver.fetch(store.PAGE, organization, page[-1][0], size))
        try:
            await asyncio.sleep(0)  # so that the question is sent
            yield page
        finally:
            page = await asked


async def _look_again(keys: LedgerKeys | None) -> None:
    if keys is not None:
        await asyncio.to_thread(keys.look_again)


async def _row(driver: Any, organization: str, number: int) -> Row:
    found = await driver.fetch(store.PAGE, organization, number - 1, 1)
    if not found or found[0]["number"] != number:
        raise EntryUnknown(f"there is no entry {number}", then="Verify from the beginning.")
    return Row(*found[0])


async def _end(driver: Any, organization: str, links: Links) -> tuple[int, int, Broken | None]:
    """The last number that there is, that which the chain should end with, and what is wrong with the end itself."""
    end = await driver.fetchrow(store.END, organization)
    if end is None:
        last = await driver.fetchval(store.LAST, organization)
        gone = Broken(Tampering.DELETION, last, "the chain has entries and no end") if last else None
        return last or 0, last or 0, gone
    number, last = end["number"], end["last"] or 0
    if last > links.number:  # there is more to look at
        return last, number, None
    if number > last:
        return last, number, links.told(None, entries=number, is_elsewhere=False)
    if number < last:
        said = f"the chain should end with entry {number}, and goes on"
        return last, last, Broken(Tampering.EDIT, number + 1, said)
    if links.number == number and not links.ends_with(end["hash"]):
        return last, number, Broken(Tampering.EDIT, number, f"the chain's end is not entry {number} as it is")
    return last, number, None


async def _stands_elsewhere(driver: Any, organization: str, links: Links) -> bool:
    """Whether the entry of the next place stands at a later one."""
    place = links.number + 1
    async with aclosing(_pages(driver, organization, links.number)) as pages:
        async for page in pages:
            for row in page:
                if row[0] != place and (one := links.read(row)) is not None and one.number == place:
                    return True
    return False


async def _anchored(driver: Any, organization: str, anchors: Anchors, entries: int) -> tuple[Held, Broken | None]:
    """Hold every anchor against the entry that it names: those that hold, and the first that does not.

    That facts were set aside stays told for good, so it is told only where nothing else is wrong.
    """
    history = await asyncio.to_thread(anchors.of, organization)
    numbers = [one.number for one in history.anchors]
    hashes = {row["number"]: row["hash"].hex() for row in await driver.fetch(store.NAMED, organization, numbers)}
    first, held, gap = next(iter(history.anchors), None), None, None

    def so_far(count: int) -> Held:
        return Held(count, history.torn, history.absent, first, held)

    for count, one in enumerate(history.anchors):
        if one.hash == SET_ASIDE:
            said = f"at {one.at.isoformat()} facts behind entry {one.number} were set aside: its end was another then"
            gap = gap or Broken(Tampering.GAP, one.number + 1, said)
            continue
        if gap is not None and held is not None and one.number < held.number:
            continue  # the end as it was changed to, which is what facts were set aside for
        if one.number not in hashes:  # of what was chained since the end was read it is there
            said = f"entries {entries + 1} to {one.number} are missing, which were anchored at {one.at.isoformat()}"
            return so_far(count), Broken(Tampering.TRUNCATION, entries + 1, said)
        if hashes[one.number] != one.hash:
            place = held.number + 1 if held else 1
            said = f"entry {one.number} is not the one anchored at {one.at.isoformat()}: cut after {place - 1}"
            return so_far(count + 1), Broken(Tampering.TRUNCATION, place, f"{said}, and chained anew")
        if held is None or one.number >= held.number:
            held = one
    if history.wrong:
        return so_far(len(numbers)), Broken(Tampering.ANCHOR, held.number if held else 0, history.wrong)
    return so_far(len(numbers)), gap


async def _unanchored(driver: Any, organization: str, anchored: Anchor | None) -> Broken | None:
    """What is wrong where entries have stood for long without an anchor, though chains are anchored in seconds."""
    first = await driver.fetchrow(store.UNANCHORED, organization, anchored.number if anchored else 0)
    if first is None or first["now"] - first["at"] < UNANCHORED:
        return None
    if (
        anchored is not None and first["now"] - anchored.at < UNANCHORED
    ):  # the fact came late, and the next anchor is due
        return None
    said = (
        f"entry {first['number']} of {first['at'].isoformat()} has no anchor: the file was cut, replaced or not written"
    )
    return Broken(Tampering.ANCHOR, first["number"], said)


async def _passed(driver: Any, organization: str, keys: LedgerKeys, entries: int) -> Broken | None:
    """What is wrong where the outbox still holds facts that were passed and never chained."""
    row = await _row(driver, organization, 1)
    begins = position(keys, row._asdict() | {"org": organization})
    told = None if begins is None else await driver.fetchrow(store.PASSED, str(begins[0]), begins[1])
    if told is None or not told["facts"]:
        return None
    first = f"{told['id']} of {told['at'].isoformat()}"
    said = f"{told['facts']} facts of the last days are in no entry, the first of them {first}"
    return Broken(Tampering.GAP, entries + 1, said)
