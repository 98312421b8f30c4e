"""The supervisor keeps the services of one home alive, in order, and can itself be killed at any time.

Its start is the same after a clean stop, a kill or a power loss: take the lock, choose ports, adopt what lives and is
still wanted, end what is ours and no longer wanted, start the rest. What it does not manage to start, it undoes; what
it adopted, it leaves as it was.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import groupby
from typing import Any

from agentos.apps.embedded import logs, process
from agentos.apps.embedded.child import Child
from agentos.apps.embedded.home import Desired, Home, Memory, ServiceState, State
from agentos.apps.embedded.plan import Programs, draw
from agentos.apps.embedded.ports import Ports
from agentos.apps.embedded.service import Job, Plan, Service
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.kernel.errors import AgentOSError, Conflict, Unavailable, problem

START_SECONDS = 90.0  # a cold initdb on a slow disk; everything else is far below
JOB_SECONDS = 600.0  # a migration of a large database
TICK_SECONDS = 2.0  # how often logs are bounded and the home is looked at

CHANGE = signal.SIGUSR1  # "read desired.json"


class AlreadyRunning(Conflict):
    """Another supervisor has this home."""

    code = "already_running"


class ServiceFailed(Unavailable):
    """A service or a job of the stack does not start."""

    code = "service_failed"


class GivenUnreachable(Unavailable):
    """A cluster that the environment names does not answer."""

    code = "given_unreachable"


class Supervisor:
    """One home's supervisor. ``run`` returns when it was told to stop and everything is down."""

    def __init__(
        self,
        home: Home,
        settings: EmbeddedSettings,
        programs: Programs | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home
        self.settings = settings
        self.programs = programs or Programs()
        self.state = State()
        self.children: dict[str, Child] = {}
        self._say_aloud = say
        self._plan = Plan()
        self._asked_to_stop = asyncio.Event()
        self._asked_to_change = asyncio.Event()
        self._memory = Memory.new()

    async def run(self) -> None:
        """Start everything, keep it alive, stop it in order. Raises a kind of error if the start fails."""
        self.home.prepare()
        with self.home.supervisor_lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(
                    "A supervisor runs for this home", where=str(self.home.path), then="See `agentos ps`."
                ) from None
            self._listen()
            try:
                await self._serve(os.fstat(lock.fileno()).st_ino)
            except asyncio.CancelledError:
                await self._stop_all()
                raise

    async def _serve(self, lock_inode: int) -> None:
        before = self.home.state()
        me = process.identify(os.getpid())
        assert me is not None
        self.state = State(phase="starting", pid=me.pid, born=me.born)
        self._publish()
        try:
            await self._until_stopped(self._start(before))
        except AgentOSError as error:
            self._say_aloud(f"cannot start: {error}")
            await self._stop_all(keep_adopted=True)
            self.state.phase, self.state.problem = "failed", problem(error)
            self._publish()
            raise
        if not self._asked_to_stop.is_set():
            self.state.phase = "running"
            self._say("ready")
            await self._until_stopped(self._keep(lock_inode))
        self._say("stopping")
        await self._stop_all()

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or leave it when asked to stop."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._asked_to_stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return
        task.result()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sign, self._asked_to_stop.set)
        loop.add_signal_handler(CHANGE, self._asked_to_change.set)

    async def _start(self, before: State) -> None:
        self._memory = self.home.memory() or Memory.new()
        alive = [entry for entry in before.services if process.alive(entry.identity)]
        desired = self.home.desired()
        self._draw(desired.workers if desired else self.settings.workers, ours=alive)
        await self._adopt(alive)
        await self._check_given()
        await self._bring_up(self._plan.engines)
        for service in self._plan.engines:
            await service.provision()
        for job in self._plan.jobs:
            await self._do(job)
        await self._bring_up(self._plan.platform)

    def _draw(self, workers: int, *, ours: list[ServiceState]) -> None:
        """Make the plan. On the ports of our own services somebody listens already: we do."""
        held = {port for entry in ours for port in entry.ports.values()}
        ports = Ports(self._memory.ports, held, self._say)
        self._plan = draw(self.home, self._memory, ports, workers, self.settings, self.programs)
        self.home.remember(self._memory)
        self.home.want(Desired(workers=workers))
        self.state.api = self._plan.api
        self.state.given = {given.name: given.address for given in self._plan.given}

    async def _adopt(self, alive: list[ServiceState]) -> None:
        """Take over what lives and is wanted as it is; end everything else that is ours."""
        wanted = {service.name: service for service in self._plan.services}
        stale: list[ServiceState] = []
        for entry in alive:
            service = wanted.get(entry.name)
            child = self._child(service) if service else None
            if child and child.adopt(entry):
                self.children[entry.name] = child
                self._say(f"adopted {entry.name} (pid {entry.pid})")
            else:
                stale.append(entry)
        await asyncio.to_thread(end_in_order, stale)
        orphans = [(who, name) for who, name in process.belonging(self._memory.id) if name not in self.children]
        for name in sorted({name for _, name in orphans} | {entry.name for entry in stale}):
            self._say(f"cleaned up {name}, which an earlier supervisor left")
        # Not by signal alone: a leftover postmaster takes SIGTERM as "wait for the clients".
        await asyncio.to_thread(process.end, [who for who, _ in orphans], signal.SIGINT, 5)

    async def _check_given(self) -> None:
        for given in self._plan.given:
            if not await given.ready():
                raise GivenUnreachable(
                    f"{given.name} at {given.address} does not answer",
                    where=given.variable,
                    then=f"Check {given.variable}, or unset it to use the embedded {given.name}.",
                )

    async def _bring_up(self, services: tuple[Service, ...]) -> None:
        """Start what is not adopted and wait until all serve. Raises ServiceFailed (Unavailable)."""
        new = [service for service in services if service.name not in self.children]
        if new:
            self._say(f"starting {', '.join(service.name for service in new)}")
        for service in new:
            logs.rotate(self.home.log(service.name))
            self.children[service.name] = self._child(service)
            self.children[service.name].start()
        children = [self.children[service.name] for service in services]
        children = [child for child in children if not child.settled.is_set()]  # what served before is not new
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                for child in children:
                    await child.settled.wait()
        for child in children:
            if not child.serving:
                name = child.service.name
                if child.problem:
                    raise child.problem
                how = f"died {child.quick_deaths} times" if child.quick_deaths else "is not ready"
                raise ServiceFailed(
                    f"{name} {how} while starting",
                    where=str(self.home.log(name)),
                    then=f"Read its log: agentos logs {name}",
                )

    async def _do(self, job: Job) -> None:
        """Run a job to its end. Raises ServiceFailed (Unavailable)."""
        self._say(job.says or job.name)
        log = self.home.log(job.name)
        logs.rotate(log)
        running = process.spawn(job.command, {**os.environ, **job.env}, log)
        try:
            async with asyncio.timeout(JOB_SECONDS):
                while running.poll() is None:  # noqa: ASYNC110 - another process has no event to wait for
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._say(f"{job.name} takes longer than {JOB_SECONDS:.0f} s; killing it")
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
        if running.returncode != 0:
            raise ServiceFailed(
                f"{job.name} failed (exit code {running.returncode})",
                where=str(log),
                then=f"Read its log: agentos logs {job.name}",
            )

    async def _keep(self, lock_inode: int) -> None:
        """Follow what people ask for, and keep the house, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._asked_to_change.wait()
            if self._asked_to_change.is_set():
                self._asked_to_change.clear()
                await self._change()
            try:
                if self.home.supervisor_lock.stat().st_ino != lock_inode:
                    raise FileNotFoundError
                for log in [*self.home.logs.glob("*.log")]:
                    logs.rotate(log)
            except FileNotFoundError:  # somebody removed the home: nothing of it may go on running
                self._asked_to_stop.set()
            except OSError as error:
                self._say(f"cannot bound the logs: {error}")

    async def _change(self) -> None:
        """Bring the number of workers to what is desired."""
        desired = self.home.desired()
        if desired is None:
            return
        try:
            self._draw(desired.workers, ours=[child.state for child in self.children.values()])
            wanted = {service.name for service in self._plan.services}
            extra = [child for name, child in self.children.items() if name not in wanted]
            await asyncio.gather(*(child.stop() for child in extra))
            for child in extra:
                del self.children[child.service.name]
            self._publish()
            await self._bring_up(self._plan.platform)
        except AgentOSError as error:
            self._say(f"cannot change: {error}")

    async def _stop_all(self, *, keep_adopted: bool = False) -> None:
        """Stop the services, those of the highest rank first."""
        self.state.phase = "stopping"
        kept = [child for child in self.children.values() if keep_adopted and child.adopted]
        going = sorted((c for c in self.children.values() if c not in kept), key=lambda c: -c.service.rank)
        for _, group in groupby(going, key=lambda child: child.service.rank):
            await asyncio.gather(*(child.stop() for child in group))
        self.state.phase = "stopped"
        self._publish()

    def _child(self, service: Service) -> Child:
        return Child(service, self.home, self._publish, self._say)

    def _say(self, text: str) -> None:
        self._say_aloud(text)
        self.state.progress = [*self.state.progress, text][-200:]
        self._publish()

    def _publish(self) -> None:
        self.state.services = [child.state for child in self.children.values()]
        try:
            self.home.write_state(self.state)
        except (
            OSError
        ) as error:  # the disk is full or the home is gone: the services matter more than their description
            if self.home.path.exists():
                self._say_aloud(f"cannot write the state: {error}")


def end_in_order(services: list[ServiceState]) -> None:
    """End services that have no supervisor, as it would: by their own signals, the highest rank first."""
    for entry in sorted(services, key=lambda entry: -entry.rank):
        if entry.identity:
            process.end([entry.identity], signal.Signals(entry.stop_signal), entry.stop_seconds)
