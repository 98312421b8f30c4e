"""What all processes together may ask of a provider: requests and tokens in any 60 seconds, by the database's clock.

    caller ──▶ line of this process ──▶ one statement for all that wait ──▶ granted, in order
                                                                       └──▶ the rest sleeps until room comes free

A grant counts for the most that its call can use and is settled to what it used, so a limit on tokens holds while calls
are under way. Within a process callers are let through in the order in which they came; between processes, whoever asks
first when room comes free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, Final

import structlog

from agentos.kernel.clock import elapsed
from agentos.kernel.database import Database, translated
from agentos.kernel.errors import Unavailable
from agentos.runtime.inference.model import ModelRateLimited
from agentos.runtime.inference.settings import RouterSettings

log = structlog.get_logger(__name__)

WINDOW_SECONDS: Final = 60.0
# From its grant to the provider a call takes time, one more than another, so that calls which were granted 60 s apart
# may arrive a little closer. The window of grants is longer by what that may differ; it costs 2.5 % of the limit.
SLACK_SECONDS: Final = 1.5
LATE_SECONDS: Final = 1.25  # a grant that was so long under way is given back: with the call's own way it is too late
MOST_AT_ONCE: Final = 64  # callers that one statement lets through
# Another process's settlement makes room that a sleeping one is not told of: nobody sleeps longer than this.
LOOK_SECONDS: Final = 0.25
SETTLE_SECONDS: Final = 0.02  # for settlements to come together; callers in line are let through after it

_TAKE: Final = "SELECT grants, wait FROM model_limit_take($1, $2, $3, $4, $5, NULL)"
_USED: Final = "SELECT provider, requests, tokens FROM model_limits_used($1)"
_SETTLE: Final = "SELECT model_limit_settle($1, $2, $3)"


@dataclass(slots=True)
class _Waiting:
    """A caller in line. ``granted`` is its grant, or None when its time was up."""

    tokens: int
    until: float
    granted: asyncio.Future[int | None]


@dataclass(slots=True)
class _Line:
    """The callers of this process that wait for one provider, and what is to be settled."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    serving: asyncio.Task[None] | None = None
    used: dict[int, int | None] = field(default_factory=dict)
    settling: asyncio.Task[None] | None = None
    freed: asyncio.Event = field(default_factory=asyncio.Event)  # calls of this process were settled
    wait: float = 0.0  # of whoever is first, as of the last look


@dataclass(frozen=True, slots=True)
class Granted:
    """Room that a call has."""

    limits: SharedLimits
    provider: str
    id: int

    def settle(self, tokens: int | None) -> None:
        """Say how many tokens the call used; None leaves what was granted."""
        if tokens is not None:
            self.limits.settle(self.provider, self.id, tokens)

    def give_back(self) -> None:
        """Say that nothing was sent: it is as if the room had never been given."""
        self.limits.settle(self.provider, self.id, None)


class SharedLimits:
    """The limits of every provider that has one, as one process meets them."""

    def __init__(self, database: Database, settings: RouterSettings) -> None:
        self._database = database
        self._settings = settings
        self._lines: dict[str, _Line] = {}

    def limits(self, provider: str) -> bool:
        """Whether the provider has a limit."""
        return self._settings.limit_of(provider) != (0, 0)

    async def take(self, provider: str, tokens: int, *, within: float) -> Granted:
        """Room for a call of at most so many tokens, once it is its turn. ``within`` 0: now or not at all.

        Raises ModelRateLimited (Exhausted), DatabaseUnavailable.
        """
        line = self._lines.setdefault(provider, _Line())
        until, found = elapsed() + within, None
        if within > 0 or not line.waiting:
            one = _Waiting(tokens, until, asyncio.get_running_loop().create_future())
            line.waiting.append(one)
            if line.serving is None:
                line.serving = asyncio.create_task(self._serve(provider, line))
            try:
                found = await one.granted
            except asyncio.CancelledError:
                if one.granted.done() and not one.granted.cancelled() and (unused := one.granted.result()) is not None:
                    self.settle(provider, unused, None)
                raise
        if found is None:
            requests, most = self._settings.limit_of(provider)
            raise ModelRateLimited(
                f"the limit of {provider} has no room in time: {requests or 'any number of'} requests and "
                f"{most or 'any number of'} tokens in {WINDOW_SECONDS:g} s, of all processes together",
                then="Raise the limit, or wait.",
                retry_after=timedelta(seconds=max(line.wait, LOOK_SECONDS)),
            )
        return Granted(self, provider, found)

    async def used(self) -> dict[str, tuple[int, int]]:
        """Requests and tokens of the last 60 s, by provider. Raises DatabaseUnavailable."""
        pool = await self._database.driver("agentos_system")
        with translated():
            rows: Any = await pool.fetch(_USED, WINDOW_SECONDS)
        return {row["provider"]: (row["requests"], row["tokens"]) for row in rows}

    def settle(self, provider: str, grant: int, tokens: int | None) -> None:
        """Say what a call used, None where nothing was sent. Returns at once.

        While the database is away the grant counts as it was made.
        """
        line = self._lines[provider]
        line.used[grant] = tokens
        if line.settling is None:
            line.settling = asyncio.create_task(self._settle(provider, line))

    async def close(self) -> None:
        """Settle what is left, and turn away whoever still waits."""
        for line in self._lines.values():
            if line.serving is not None:
                line.serving.cancel()
            if line.settling is not None:
                await line.settling

    async def _serve(self, provider: str, line: _Line) -> None:
        """Let through whoever waits, in order, until nobody does."""
        try:
            while line.waiting:
                began = elapsed()
                group = list(islice((one for one in line.waiting if not one.granted.done()), MOST_AT_ONCE))
                grants, line.wait = await self._look(provider, [one.tokens for one in group]) if group else ([], 0.0)
                late = elapsed() - began > LATE_SECONDS
                for one, grant in zip(group, grants, strict=False):
                    if late or one.granted.done():
                        self.settle(provider, grant, None)
                    else:
                        one.granted.set_result(grant)
                for one in line.waiting:
                    if not one.granted.done() and one.until <= elapsed():
                        one.granted.set_result(None)
                line.waiting = deque(one for one in line.waiting if not one.granted.done())
                if len(grants) < len(group):
                    next_end = min((one.until for one in line.waiting), default=0.0) - elapsed()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(min(line.wait, LOOK_SECONDS, next_end), 0.001)):
                            await line.freed.wait()
                line.freed.clear()
        except Exception as error:  # whatever it is, each waiting caller is told
            for one in line.waiting:
                if not one.granted.done():
                    one.granted.set_exception(error)
            line.waiting.clear()
        finally:
            for one in line.waiting:  # the process ends
                one.granted.cancel()
            line.serving = None

    async def _look(self, provider: str, tokens: list[int]) -> tuple[list[int], float]:
        requests, most = self._settings.limit_of(provider)
        pool = await self._database.driver("agentos_system")
        with translated():
            row: Any = await pool.fetchrow(_TAKE, provider, requests, most, WINDOW_SECONDS + SLACK_SECONDS, tokens)
        return list(row["grants"]), float(row["wait"] or 0.0)

    async def _settle(self, provider: str, line: _Line) -> None:
        try:
            while line.used:
                await asyncio.sleep(SETTLE_SECONDS)
                used, line.used = line.used, {}
                pool = await self._database.driver("agentos_system")
                with translated():
                    await pool.fetchval(_SETTLE, provider, list(used), list(used.values()))
                line.freed.set()
        except Unavailable as away:
            log.warning("model_limits_unsettled", provider=provider, code=away.code)
        finally:
            line.settling = None
