"""What people do with a stack, as functions: up, down, ps, status, restart, scale, logs.

They speak to the supervisor through files and signals only, so they work on a stack of any age, and say what is true
also when the supervisor was killed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from agentos.apps.embedded import logs as log_files
from agentos.apps.embedded import probe, process
from agentos.apps.embedded.home import Desired, Home, ServiceState, State
from agentos.apps.embedded.plan import Programs
from agentos.apps.embedded.postgres import LOGIN
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.apps.embedded.supervisor import CHANGE, JOB_SECONDS, START_SECONDS, Supervisor, end_in_order
from agentos.kernel.errors import AgentOSError, Invalid, NotFound, Unavailable, every_error

DAEMON: Sequence[str] = (sys.executable, "-m", "agentos.apps.embedded")  # tests put a smaller one in its place
PROGRAMS: Programs = Programs()  # the same for --foreground
_daemons: list[subprocess.Popen[bytes]] = []  # kept, as they outlive us; reaped by `down` if we live as long
_PAUSE: Final = 0.05  # seconds between two looks at the state file

Say = Callable[[str], None]


class NotRunning(Unavailable):
    """The stack of this home is not running."""

    code = "stack_not_running"


class SupervisorDied(Unavailable):
    """The supervisor ended before the stack was ready."""

    code = "supervisor_died"


class UnknownService(NotFound):
    """The stack has no service of that name."""

    code = "unknown_service"


class NotScalable(Invalid):
    """Only the number of workers can be changed, from 0 to 64."""

    code = "not_scalable"


class TooSlow(Unavailable):
    """The stack did not reach what was asked for in time."""

    code = "stack_too_slow"


def up(home: Home, *, workers: int | None = None, say: Say) -> State:
    """Return when the stack serves. It is started unless it runs; two callers at once get one stack.

    Raises the problem that the supervisor met, SupervisorDied or TooSlow (Unavailable), HomeUnusable, DiskFull.
    """
    home.prepare()
    if workers is not None:
        home.want(Desired(workers=_count(workers)))
    with _turn(home, say):
        _wait_while(home, lambda state: state.phase == "stopping", seconds=120)
        state = home.state()
        if process.alive(state.supervisor):
            say("already running" if state.phase == "running" else "already starting")
            running = _follow(home, None, say)
            if workers is not None:
                return scale(home, "worker", workers)
            return running
        log_files.rotate(home.log("supervisor"))
        env = {name: value for name, value in os.environ.items() if name not in (process.STACK, process.SERVICE)}
        env["AGENTOS_HOME"] = str(home.path)
        daemon = process.spawn(DAEMON, env, home.log("supervisor"))
        _daemons.append(daemon)
        return _follow(home, daemon, say)


def foreground(home: Home, settings: EmbeddedSettings, *, workers: int | None = None, say: Say) -> None:
    """Supervise in this process until SIGINT or SIGTERM. Raises AlreadyRunning (Conflict) and what ``up`` raises."""
    home.prepare()
    if workers is not None:
        home.want(Desired(workers=_count(workers)))
    asyncio.run(Supervisor(home, settings, PROGRAMS, say=say).run())


def down(home: Home, *, say: Say) -> list[str]:
    """Stop everything in order: workers, API, Temporal, PostgreSQL. Names what was running; doing it twice is fine."""
    state = home.state()
    names = [entry.name for entry in state.services if process.alive(entry.identity)]
    if process.send(state.supervisor, signal.SIGTERM):
        say("stopping")
        longest = sum(entry.stop_seconds for entry in state.services) + 10
        if not process.wait(state.supervisor, longest):
            process.end([state.supervisor], signal.SIGKILL)
    _daemons[:] = [daemon for daemon in _daemons if daemon.poll() is None]
    left = home.state()
    end_in_order([entry for entry in left.services if process.alive(entry.identity)])
    memory = home.memory() if home.path.exists() else None
    if memory:
        process.end([who for who, _ in process.belonging(memory.id)], signal.SIGINT, 5)
    return names


def ps(home: Home) -> list[dict[str, Any]]:
    """The services of the stack as they are now."""
    state = home.state()
    supervised = process.alive(state.supervisor)
    return [_row(entry, supervised) for entry in state.services]


def status(home: Home) -> dict[str, Any]:
    """The whole picture: supervisor, addresses, and of each service whether it answers now."""
    state = home.state()
    supervised = process.alive(state.supervisor)
    ready = asyncio.run(_ask(home, state))
    return {
        "home": str(home.path),
        "phase": state.phase if supervised or state.phase in ("stopped", "failed") else "unsupervised",
        "ready": supervised and state.phase == "running" and bool(ready) and all(ready.values()),
        "supervisor": state.pid if supervised else None,
        "api": state.api if supervised else None,
        "given": state.given,
        "problem": state.problem["detail"] if state.problem else None,
        "services": [_row(entry, supervised) | {"ready": ready[entry.name]} for entry in state.services]
        + [
            {"service": name, "state": "given", "port": address, "ready": ready[name]}
            for name, address in state.given.items()
        ],
    }


def restart(home: Home, name: str, *, seconds: float = START_SECONDS) -> State:
    """End a service and return when the supervisor's next one serves. Raises NotRunning, UnknownService, TooSlow."""
    before = _entry(_supervised(home), name)
    if before.identity:
        process.end([before.identity], signal.Signals(before.stop_signal), before.stop_seconds)

    def old(state: State) -> bool:
        entry = _entry(state, name)
        return entry.state != "running" or entry.identity == before.identity

    return _wait_while(home, old, seconds=seconds, what=f"{name} does not serve again", log=name)


def scale(home: Home, name: str, count: int, *, seconds: float = START_SECONDS) -> State:
    """Return when that many workers serve. Raises NotScalable (Invalid), NotRunning, TooSlow (Unavailable)."""
    if name != "worker":
        raise NotScalable(f"'{name}' cannot be scaled", then="Write: agentos scale worker N.")
    supervisor = _supervised(home).supervisor
    home.want(Desired(workers=_count(count)))
    process.send(supervisor, CHANGE)
    wanted = {f"worker-{number}" for number in range(1, count + 1)}

    def other(state: State) -> bool:
        workers = {entry.name: entry.state for entry in state.services if entry.name.startswith("worker-")}
        return set(workers) != wanted or set(workers.values()) - {"running"} != set()

    return _wait_while(home, other, seconds=seconds, what=f"{count} workers are not there", log="supervisor")


def logs(home: Home, name: str, lines: int) -> list[str]:
    """The last lines of a service's log. Raises UnknownService (NotFound)."""
    return log_files.tail(_log(home, name), lines)


def follow(home: Home, name: str) -> Iterator[str]:
    """The lines of a service's log as they are written. Never ends. Raises UnknownService (NotFound)."""
    return log_files.follow(_log(home, name))


def _log(home: Home, name: str) -> Any:
    known = sorted(path.stem for path in home.logs.glob("*.log")) if home.logs.exists() else []
    if name not in known:
        raise UnknownService(
            f"No log of '{name}'",
            where=str(home.logs),
            then=f"There are: {', '.join(known)}." if known else "Start the stack: agentos up.",
        )
    return home.log(name)


@contextmanager
def _turn(home: Home, say: Say) -> Iterator[None]:
    """One ``up`` at a time: the second waits here and then finds the stack running."""
    with home.up_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `agentos up` is starting this stack; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _follow(home: Home, daemon: subprocess.Popen[bytes] | None, say: Say) -> State:
    """Tell the progress of the supervisor until the stack serves."""
    told = len(home.state().progress) if daemon is None else 0
    limit = time.monotonic() + JOB_SECONDS + 2 * START_SECONDS
    while time.monotonic() < limit:
        state = home.state()
        mine = daemon is None or state.pid == daemon.pid
        ended = daemon is not None and daemon.poll() is not None
        if mine or process.alive(state.supervisor):
            for line in state.progress[told:]:
                say(line)
            told = len(state.progress)
            if state.phase == "failed" and state.problem and not process.alive(state.supervisor):
                raise _revived(state.problem)
            if state.phase == "running" and process.alive(state.supervisor):
                return state
        # Read once more after its end: it may have written why.
        if (ended or daemon is None) and not process.alive(state.supervisor) and home.state() == state:
            log = home.log("supervisor")
            raise SupervisorDied("The supervisor ended early", where=str(log), then="Read its log and run it again.")
        time.sleep(_PAUSE)
    raise TooSlow("The stack is not ready in time", where=str(home.path), then="See: agentos status")


def _wait_while(
    home: Home, unmet: Callable[[State], bool], *, seconds: float, what: str = "the stack does not stop", log: str = ""
) -> State:
    """Wait while that holds and the supervisor lives."""
    limit = time.monotonic() + seconds
    while unmet(state := home.state()):
        if not process.alive(state.supervisor):
            return state
        if time.monotonic() > limit:
            raise TooSlow(what, then=f"Read the log: agentos logs {log or 'supervisor'}")
        time.sleep(_PAUSE)
    return state


def _supervised(home: Home) -> State:
    state = home.state()
    if not process.alive(state.supervisor):
        raise NotRunning("The stack is not running", where=str(home.path), then="Start it: agentos up.")
    return state


def _entry(state: State, name: str) -> ServiceState:
    for entry in state.services:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in state.services)
    raise UnknownService(f"No service '{name}'", then=f"There are: {names}.")


def _row(entry: ServiceState, supervised: bool) -> dict[str, Any]:
    lives = process.alive(entry.identity)
    state = entry.state if supervised else ("unsupervised" if lives else "stopped")
    return {
        "service": entry.name,
        "pid": entry.pid if lives else None,
        "state": state,
        "port": next(iter(entry.ports.values()), None),
        "restarts": entry.restarts,
        "since": entry.since,
    }


async def _ask(home: Home, state: State) -> dict[str, bool]:
    """Ask every service now, also when no supervisor lives."""

    async def one(entry: ServiceState) -> bool:
        if not process.alive(entry.identity):
            return False
        if entry.name == "postgres":
            memory = home.memory()
            password = memory.login_password if memory else ""
            return await probe.postgres(f"postgresql://{LOGIN}:{password}@127.0.0.1:{entry.ports['postgres']}/{LOGIN}")
        if entry.name == "temporal":
            return await probe.http(entry.ports["temporal_http"], "/api/v1/namespaces/default")
        if entry.name == "api":
            return await probe.http(entry.ports["api"], "/health/ready")
        return await probe.http(entry.ports[entry.name], "/metrics")

    async def outside(address: str) -> bool:
        host, _, port = address.rpartition(":")
        return await probe.tcp(host, int(port))

    names = [entry.name for entry in state.services] + list(state.given)
    answers = await asyncio.gather(*map(one, state.services), *map(outside, state.given.values()))
    return dict(zip(names, answers, strict=True))


def _revived(found: dict[str, Any]) -> AgentOSError:
    """The error that the supervisor wrote down, to be told by this process."""
    kind = next((error for error in every_error() if error.code == found["code"]), Unavailable)
    return kind(found["detail"], where=found.get("where", ""), then=found.get("next", ""))


def _count(workers: int) -> int:
    if not 0 <= workers <= 64:
        raise NotScalable(f"{workers} workers are not possible", then="Choose 0 to 64.")
    return workers
