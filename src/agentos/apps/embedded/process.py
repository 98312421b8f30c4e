"""Processes are named by pid and time of birth, so a pid that the system used again is never taken for ours.

Signals go through a pidfd opened before the check, so between check and signal the pid cannot change hands. Services
are found again after the loss of every file by AGENTOS_STACK in their environment: the random id of their home.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from agentos.kernel.errors import Unavailable

STACK: Final = "AGENTOS_STACK"
SERVICE: Final = "AGENTOS_SERVICE"


class ProgramMissing(Unavailable):
    """A program that the embedded stack needs is not on this machine."""

    code = "program_missing"


class Identity(NamedTuple):
    """One process for all time: its pid, and boot id plus start in clock ticks (wall time may be set back)."""

    pid: int
    born: str


def program(name: str) -> str:
    """The path of a program. Raises ProgramMissing (Unavailable)."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise ProgramMissing(f"The program '{name}' is not installed", then="It is part of util-linux or passwd.")
    return found


def identify(pid: int) -> Identity | None:
    """Who has this pid now. None if nobody, or only a zombie: a dead process that is not reaped yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Identity(pid, f"{boot}:{fields[19]}")


def alive(who: Identity | None) -> bool:
    """Whether that very process runs."""
    return who is not None and identify(who.pid) == who


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments of a process; empty if it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0"))


def runs(who: Identity, command: Sequence[str]) -> bool:
    """Whether that process lives and its arguments are the command, or its end: unshare and setpriv exec the rest."""
    live = command_line(who.pid)
    return alive(who) and bool(live) and tuple(command)[-len(live) :] == live


def send(who: Identity, sign: signal.Signals) -> bool:
    """Signal that very process and nobody else. False if it is gone."""
    if not alive(who):
        return False
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(who.pid) != who:
            return False
        signal.pidfd_send_signal(handle, sign)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait(who: Identity, seconds: float) -> bool:
    """Wait until that process has ended. False if it still runs after the given time."""
    if not alive(who):
        return True
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return True
    try:
        if identify(who.pid) != who:
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def end(all_of: Iterable[Identity], sign: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
    """End those processes: the signal, and SIGKILL for those that still run after the given time."""
    signalled = [who for who in all_of if send(who, sign)]
    limit = time.monotonic() + seconds
    for who in signalled:
        if not wait(who, max(0.0, limit - time.monotonic())):
            send(who, signal.SIGKILL)
            wait(who, 5)


def belonging(stack: str) -> list[tuple[Identity, str]]:
    """Every process that this home's supervisor, or one before it, has started, with the name of its service."""
    mark, found = f"{STACK}={stack}".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # gone meanwhile, or another user's
            values = (entry / "environ").read_bytes().split(b"\0")
            names = [
                value.partition(b"=")[2].decode(errors="replace")
                for value in values
                if value.startswith(f"{SERVICE}=".encode())
            ]
            who = identify(int(entry.name))
            if mark in values and names and who:
                found.append((who, names[0]))
    return found


def spawn(
    command: Sequence[str], env: Mapping[str, str], log: Path, *, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that writes straight to its log, so it outlives its supervisor."""
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        return subprocess.Popen(  # noqa: S603 - a plan of ours
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=cwd,
        )


def dies_with_parent() -> tuple[str, ...]:
    """A prefix for a command that the kernel kills when the *thread* that started it ends, even by SIGKILL.

    It must come after a prefix that changes credentials (unshare, setpriv): the kernel then forgets the wish.
    """
    return (program("setpriv"), "--pdeathsig", "KILL", "--")
