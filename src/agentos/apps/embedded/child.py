"""One service under the supervisor: started, watched through a pidfd, started again when it dies, stopped.

A process that this supervisor started and one that it adopted are watched in the same way: a pidfd becomes readable
when its process ends, whoever the parent is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress

from agentos.apps.embedded import process
from agentos.apps.embedded.home import Home, ServiceState
from agentos.apps.embedded.service import Service
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError

QUICK_SECONDS = 2.0  # a service that dies before it served that long is crash-looping
FIRST_DELAY = 0.1  # PostgreSQL may refuse once while a killed one's memory is freed; that takes milliseconds
LONGEST_DELAY = 2.0  # the next try of a crash loop: soon for the one who mends the cause, cheap for the machine


class Child:
    """A service and its process. Every change of state is published through ``changed``."""

    def __init__(self, service: Service, home: Home, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self.service = service
        self.state = ServiceState(
            name=service.name,
            ports=dict(service.ports),
            recipe=service.recipe,
            rank=service.rank,
            stop_signal=int(service.stop_signal),
            stop_seconds=service.stop_seconds,
        )
        self.adopted = False
        self.quick_deaths = 0
        self.problem: AgentOSError | None = None  # why its last start could not even be tried
        self.settled = asyncio.Event()  # it serves, it cannot be started, or it is in a crash loop
        self._log = home.log(service.name)
        self._changed = changed
        self._say = say
        self._wanted = True
        self._running: subprocess.Popen[bytes] | None = None
        self._who: process.Identity | None = None
        self._watch: int | None = None
        self._gone = asyncio.Event()
        self._gone.set()
        self._born_at = 0.0
        self._served_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def serving(self) -> bool:
        """Whether it was ready and lives."""
        return self.state.state == "running"

    def start(self) -> None:
        """Start it and keep it alive from now on."""
        self._wanted = True
        self._task = asyncio.create_task(self._start(0))

    def adopt(self, before: ServiceState) -> bool:
        """Take over the process that an earlier supervisor started. False if it is not that process or that recipe."""
        who = before.identity
        if who is None or before.recipe != self.service.recipe or not process.runs(who, self.service.command):
            return False
        try:
            self._attach(who)
        except ProcessLookupError:
            return False
        self.adopted = True
        self.state.restarts = before.restarts
        self._set("starting")
        self._task = asyncio.create_task(self._until_ready())
        return True

    async def stop(self) -> None:
        """Stop it: its signal, then SIGKILL. When this returns the process has ended."""
        self._wanted = False
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._who:
            self._set("stopping")
            process.send(self._who, self.service.stop_signal)
            try:
                await asyncio.wait_for(self._gone.wait(), self.service.stop_seconds)
            except TimeoutError:
                self._say(f"{self.service.name} did not stop in {self.service.stop_seconds:.0f} s; killing it")
                process.send(self._who, signal.SIGKILL)
                await self._gone.wait()
        self._set("stopped")

    async def _start(self, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            self.adopted = False
            await asyncio.to_thread(self.service.before)
            running = process.spawn(self.service.command, self._env(), self._log, cwd=self.service.cwd)
            self.problem = None
        except (AgentOSError, OSError) as error:
            self._say(f"{self.service.name} cannot be started: {error}")
            if isinstance(error, AgentOSError):
                self.problem = error
                self.settled.set()
            self._again()
            return
        self._running = running
        who = process.identify(running.pid) or process.Identity(running.pid, "died at once")
        self._attach(who)
        self._set("starting")
        await self._until_ready()

    def _env(self) -> Mapping[str, str]:
        return ({**os.environ} if self.service.inherits else {}) | dict(self.service.env)

    def _attach(self, who: process.Identity) -> None:
        self._watch = os.pidfd_open(who.pid)
        self._who = who
        self._born_at, self._served_at = elapsed(), None
        self._gone.clear()
        self.state.pid, self.state.born = who
        asyncio.get_running_loop().add_reader(self._watch, self._died)

    async def _until_ready(self) -> None:
        while not await self.service.ready():  # noqa: ASYNC110 - another process has no event to wait for
            # Often at first, as a restart is awaited; seldom when it takes long anyway.
            await asyncio.sleep(0.03 if elapsed() - self._born_at < 10 else 0.5)
        self._served_at = elapsed()
        self._set("running")
        self.settled.set()

    def _died(self) -> None:
        """The process has ended: reap it at once, as a zombie postmaster counts as running, and start the next."""
        assert self._watch is not None
        asyncio.get_running_loop().remove_reader(self._watch)
        os.close(self._watch)
        self._watch = None
        how = "ended"
        if self._running:
            code = self._running.wait()
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._running = self._who = None
        self.state.pid, self.state.born, self.state.state = None, "", "restarting" if self._wanted else "stopped"
        self._gone.set()
        if self._wanted:
            self._say(f"{self.service.name} {how}; starting it again")
            if self._task:
                self._task.cancel()
            self._again()

    def _again(self) -> None:
        served = elapsed() - self._served_at if self._served_at is not None else 0.0
        self._served_at = None
        self.quick_deaths = self.quick_deaths + 1 if served < QUICK_SECONDS else 0
        # The first restart is immediate; only a service that dies young again and again waits.
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self.quick_deaths - 2)) if self.quick_deaths > 1 else 0.0
        if self.quick_deaths >= 5:
            self.settled.set()
        self.state.restarts += 1
        self._set("restarting")
        self._task = asyncio.create_task(self._start(delay))

    def _set(self, state: str) -> None:
        self.state.state = state
        self.state.since = now().isoformat(timespec="seconds")
        self._changed()
