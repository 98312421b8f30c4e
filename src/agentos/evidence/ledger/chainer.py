"""The chainer, one process at a time: facts become entries, each once and in order, and ends of chains are anchored.

A batch of facts is one transaction that adds the entries and moves the cursor, so a chainer that dies at any moment
leaves all of a batch or nothing of it. Two that both believed to be the one could not fork a chain either: facts that
were chained since they were read refuse the whole batch. A chain that does not go on from its end, as somebody changed
it, holds back no other.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from agentos.evidence.ledger import store
from agentos.evidence.ledger.anchors import Anchors, AnchorsUnusable
from agentos.evidence.ledger.chain import chained, position
from agentos.evidence.ledger.model import EMPTY, SET_ASIDE, Anchor, End
from agentos.kernel import clock
from agentos.kernel.database import Database, translated
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import LEDGER_ANCHOR_ERRORS, LEDGER_FACTS_AMISS

log = structlog.get_logger(__name__)

BATCH: Final = 1000  # facts of one transaction: some 40 ms, and as many entries are made again after a crash, at most
PAUSE_SECONDS: Final = 0.2  # between looks: facts of a moment share a commit
ANCHOR_SECONDS: Final = 5.0  # between anchors; what may be cut off unseen is promised to be no more than ten seconds
WAIT_SECONDS: Final = 5.0  # at most, before the next try while the database is away


class Chainer:
    """Chains the facts of every organization. Without a file of anchors it anchors nothing."""

    def __init__(self, database: Database, keys: LedgerKeys, anchors: Anchors | None, meter: Meter) -> None:
        self._database, self._keys, self._anchors, self._meter = database, keys, anchors, meter
        self._anchored_at = float("-inf")
        self._began: int | None = None
        self._aside: tuple[int, int] | None = None  # where it stands as the facts up to there were set aside

    async def chain_for_ever(self, stop: asyncio.Event) -> None:
        """Chain and anchor until ``stop``, in as many workers as run it. An outage is waited out."""
        pause = PAUSE_SECONDS
        while not stop.is_set():
            try:
                await self.turn(stop)
                pause = PAUSE_SECONDS
            except Exception as error:  # the chainer outlives every outage of what it reads from or writes to
                pause = min(pause * 2, WAIT_SECONDS)
                log.warning("chainer_waits", error=type(error).__name__, seconds=pause)
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue
        self._anchored_at = float("-inf")  # nothing may be cut off unseen while the platform rests
        with suppress(Exception):  # it rests because of an outage; the next start anchors
            await self.turn(stop)

    async def turn(self, stop: asyncio.Event | None = None) -> int:
        """Chain every fact that there is, and anchor when it is time; how many were chained.

        It ends however fast facts come meanwhile, and after ``stop`` with the batch that is under way. 0 where another
        process is the chainer. The lock's transaction only reads, so it holds back no reader.
        """
        async with self._database.connection("agentos_system") as held:
            if not await store.locked(held):
                return 0
            self._look_at_the_keys()
            done, count = 0, BATCH
            while count == BATCH:  # a smaller one has taken what there was; what came since waits for the next turn
                count = await self._batch()
                done += count
                await self._anchor_in_time()
                if stop is not None and stop.is_set():
                    break
            return done

    async def _beginning(self, driver: Any) -> int:
        """The first transaction whose facts all have to be sealed: what the first chaining ever kept, as it kept it.

        Where chains are and that is gone, or is not as it was kept, no fact passes for one from before the ledger.
        """
        told = await store.began(driver)
        if told["txid"] is None:
            begins = 0 if told["has_chains"] else int(told["next_txid"])
            await store.begin(driver, begins, self._keys.now.began(begins))
            return begins
        began = int(told["txid"])
        if any(hmac.compare_digest(key.began(began), told["mac"]) for key in self._keys.every):
            return began
        log.error("ledger_beginning_changed", transaction=began)
        return 0

    def _look_at_the_keys(self) -> bool:
        is_new = self._keys.look_again()
        if is_new:
            log.warning("ledger_key_changed", key=self._keys.now.id, known=len(self._keys.every))
        return is_new

    async def anchor(self) -> int:
        """Anchor every chain that has another end than its last anchor says; how many."""
        if self._anchors is None:
            return 0
        pool = await self._database.driver("agentos_system")
        with translated():
            async with pool.acquire() as driver:
                ends = await store.ends(driver)
        at, anchors = clock.now(), self._anchors
        cuts, torn = anchors.cuts, anchors.torn
        last, _ = await asyncio.to_thread(anchors.last)
        new = [
            Anchor(org, end.number, end.hash.hex(), at)
            for org, end in ends.items()
            if org not in last or (last[org].number, last[org].hash) != (end.number, end.hash.hex())
        ]
        for one in new:
            if one.org in last and one.number <= last[one.org].number and last[one.org].hash != SET_ASIDE:
                log.error("ledger_cut", org=one.org, anchored=last[one.org].number, entries=one.number)
        try:
            await asyncio.to_thread(anchors.append, new)
        finally:
            for code, count in (("anchors_cut", anchors.cuts - cuts), ("anchors_torn", anchors.torn - torn)):
                if count:
                    self._meter.count(LEDGER_ANCHOR_ERRORS, count, code=code)
                    log.error(code, files=count)
        return len(new)

    async def _anchor_in_time(self) -> None:
        if clock.elapsed() - self._anchored_at >= ANCHOR_SECONDS:
            self._anchored_at = clock.elapsed()
            try:
                await self.anchor()
            except AnchorsUnusable as error:  # facts are chained all the same; the next anchors cover them
                self._meter.count(LEDGER_ANCHOR_ERRORS, code=error.code)
                log.error("ledger_not_anchored", code=error.code, error=error.what)

    async def _put_back(self, driver: Any) -> None:
        """Go back to the last fact that was chained where the cursor stands behind a later one: somebody set it.

        What an end says of its entry's fact counts only where the entry is not as it was chained.
        """
        told = await store.last_entry(driver)
        if told is None:
            return
        stands = int(told["txid"]), told["seq"]
        if stands in (self._aside, position(self._keys, told)):
            return
        ends = await store.last_entries(driver)
        chained_up_to = max(position(self._keys, one) or (int(one["told_txid"]), one["told_seq"]) for one in ends)
        stands = int(ends[0]["txid"]), ends[0]["seq"]
        if stands > chained_up_to:
            log.error("ledger_cursor_put_back", cursor="{}-{}".format(*stands), chained="{}-{}".format(*chained_up_to))
            await store.put_back(driver, stands, chained_up_to)

    async def _tell_of(self, left_out: list[str], ends: Mapping[str, End]) -> None:
        """Write down outside the database that facts of these organizations were set aside."""
        for org in left_out:
            log.error("chain_does_not_go_on", org=org)
        if self._anchors is None:
            return
        told = [Anchor(org, ends.get(org, EMPTY).number, SET_ASIDE, clock.now()) for org in left_out]
        try:
            last, _ = await asyncio.to_thread(self._anchors.last)
            new = [one for one in told if one.org not in last or last[one.org].hash != SET_ASIDE]
            await asyncio.to_thread(self._anchors.append, new)
        except AnchorsUnusable as error:
            self._meter.count(LEDGER_ANCHOR_ERRORS, code=error.code)
            log.error("ledger_not_anchored", code=error.code, error=error.what)

    async def _batch(self) -> int:
        pool = await self._database.driver("agentos_system")
        with translated():
            async with pool.acquire() as driver:
                if self._began is None:
                    self._began = await self._beginning(driver)
                await self._put_back(driver)
                facts = await store.read(driver, BATCH)
                if not facts:
                    return 0
                ends = await store.ends(driver, list({fact["org"] for fact in facts}))
                batch = chained(self._keys, ends, facts, began=self._began)
                if batch.amiss and self._look_at_the_keys():  # sealed by one that came since
                    batch = chained(self._keys, ends, facts, began=self._began)
                left_out = await store.append(driver, batch, facts[0], facts[-1])
        if left_out:
            await self._tell_of(left_out, ends)
            self._aside = int(facts[-1]["txid"]), facts[-1]["seq"]
        for org, number, seal in batch.amiss:
            self._meter.count(LEDGER_FACTS_AMISS, org=org, seal=seal.value)
            log.error("fact_amiss", org=org, entry=number, seal=seal.value)
        return len(facts)
