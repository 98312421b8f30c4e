"""An answer under way: it goes on by itself, is heard by one client, and is broken off when that client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog

from agentos.kernel.errors import AgentOSError, Bug
from agentos.runtime.gateway.model import Opening, Said, named
from agentos.runtime.gateway.ports import Events
from agentos.runtime.gateway.settings import GatewaySettings
from agentos.runtime.inference.ports import Listed
from agentos.runtime.inference.routing import Candidate
from agentos.runtime.runs.ports import Parts

log = structlog.get_logger(__name__)

ALIVE: Final = b": alive\n\n"  # a comment, which every reader of events passes over
CLOSE_SECONDS: Final = 2.0  # for what was broken off to be counted, before the database is closed


class Talk:
    """One answer, and what was heard of it so far."""

    def __init__(self, answer_id: str, at: datetime, opening: Opening | None = None) -> None:
        self.id = answer_id
        self.at = at
        self.opening = opening  # from the first where it is known then, else as soon as a model is asked
        self.heard = False
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()  # None: the end
        self._stirred = asyncio.Event()  # something was heard, or it is over
        self._task: asyncio.Task[Said] | None = None

    def began(self, candidate: Candidate) -> None:
        """Take note of the model that is asked now."""
        self.opening = Opening(self.id, named(candidate.provider, candidate.name), candidate.provider, self.at)

    def hear(self, piece: str) -> None:
        """Take a piece of the text."""
        if piece:
            self.heard = True
            self.pieces.put_nowait(piece)
            self._stirred.set()

    def go(self, work: Coroutine[Any, Any, Said]) -> asyncio.Task[Said]:
        """Let the answer be made."""
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._over)
        return self._task

    def _over(self, done: asyncio.Task[Said]) -> None:
        if not done.cancelled():
            done.exception()  # somebody has seen it, also where the client went away
        self.pieces.put_nowait(None)
        self._stirred.set()

    @property
    def task(self) -> asyncio.Task[Said]:
        """What makes the answer."""
        assert self._task is not None, "the talk goes on"
        return self._task

    def stop(self) -> None:
        """Break it off, unless it is over."""
        self.task.cancel()

    async def whole(self, gone: Coroutine[Any, Any, None]) -> Said | None:
        """The whole answer, or what it raises; None when the client goes away before, which breaks it off."""
        left = asyncio.create_task(gone)
        try:
            await asyncio.wait({left, self.task}, return_when=asyncio.FIRST_COMPLETED)
            return self.task.result() if self.task.done() else None
        finally:
            left.cancel()
            self.stop()

    async def first(self, gone: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Wait for something to tell, so many seconds at most; False when the client goes away, which breaks it off.

        Raises what the answer does where nothing was told before.
        """
        left, stirs = asyncio.create_task(gone), asyncio.create_task(self._stirred.wait())
        here = False
        try:
            await asyncio.wait({left, stirs}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self.task.done() and not self.heard:
                self.task.result()
            here = not left.done()
            return here
        finally:
            left.cancel()
            stirs.cancel()
            if not here:
                self.stop()

    async def events(self, form: Events, request_id: str, alive_seconds: float) -> AsyncIterator[bytes]:
        """The answer as the client's form has it, with signs of life while nothing happens."""
        begun = False
        while True:
            try:
                piece = await asyncio.wait_for(self.pieces.get(), alive_seconds)
            except TimeoutError:
                if self.opening is not None and self.opening.run_id and not begun:
                    begun = True
                    yield form.begin(self.opening)
                yield ALIVE
                continue
            if piece is None:
                break
            if not begun:
                assert self.opening is not None, "whoever says something was asked"
                begun = True
                yield form.begin(self.opening)
            if told := form.text(piece):
                yield told
        error = self._error()
        if error is not None:
            yield form.broke(error, request_id)
            return
        said = self.task.result()
        if not begun:
            yield form.begin(Opening(said.id, said.model, said.provider, self.at, said.run_id))
        yield form.end(said)

    def _error(self) -> AgentOSError | None:
        if self.task.cancelled():
            return Bug("the answer was broken off")
        error = self.task.exception()
        if error is None or isinstance(error, AgentOSError):
            return error
        log.error("answer_failed", error=type(error).__name__, exc_info=error)
        return Bug("the platform made a mistake", then="Tell your operator the request id.")


@dataclass(slots=True)
class Gateway:
    """What a process of the API holds for the gateway. ``providers`` tells which there are."""

    parts: Parts
    providers: Callable[[], Sequence[Listed]]
    settings: GatewaySettings
    live: set[asyncio.Task[Said]] = field(default_factory=set)

    def begin(self, talk: Talk, work: Coroutine[Any, Any, Said]) -> Talk:
        """Let an answer be made, whoever listens."""
        task = talk.go(work)
        self.live.add(task)
        task.add_done_callback(self.live.discard)
        return talk

    async def close(self) -> None:
        """Break off what is under way, and let it be counted."""
        for task in list(self.live):
            task.cancel()
        if self.live:
            await asyncio.wait(self.live, timeout=CLOSE_SECONDS)
