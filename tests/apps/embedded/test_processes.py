"""A process is its pid and its birth; an engine for tests ends with the one who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from agentos.apps.embedded import process

_SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(600)")


def test_a_signal_reaches_that_very_process_only():
    command = (sys.executable, "-S", "-c", "import time; print(1, flush=True); time.sleep(600)")
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    running.stdout.readline()  # until exec is complete the process has no arguments
    who = process.identify(running.pid)
    assert who and process.alive(who) and process.runs(who, ("nice", *command))
    reused = process.Identity(running.pid, "another birth")
    assert not process.alive(reused) and not process.send(reused, signal.SIGKILL) and process.wait(reused, 0)
    process.end([reused], signal.SIGKILL)
    assert running.poll() is None
    process.end([who])
    assert running.wait(10) == -signal.SIGTERM
    running.stdout.close()
    assert not process.alive(who) and not process.send(who, signal.SIGKILL)


def test_a_zombie_is_dead():
    running = subprocess.Popen(_SLEEP)
    who = process.identify(running.pid)
    running.kill()
    assert process.wait(who, 10)
    assert process.identify(running.pid) is None, "not reaped, yet gone"
    running.wait()


def test_one_that_ignores_its_signal_is_killed():
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", deaf], stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        process.end([process.identify(running.pid)], seconds=0.1)
        assert running.wait(10) == -signal.SIGKILL


def test_services_are_found_again_by_the_id_of_their_home():
    env = {**os.environ, process.STACK: "some-home", process.SERVICE: "api"}
    running = subprocess.Popen(_SLEEP, env=env)
    other = subprocess.Popen(_SLEEP, env=env | {process.STACK: "other-home"})
    assert process.belonging("some-home") == [(process.identify(running.pid), "api")]
    for one in (running, other):
        one.kill()
        one.wait()


def test_the_engines_of_a_test_run_end_with_it_even_when_it_is_killed(tmp_path):
    script = """
import asyncio, pathlib, sys, time
from agentos.apps.embedded import postgres, standalone, temporal
folder = pathlib.Path(sys.argv[1])
async def main():
    for server in (postgres.Server.temporary(folder), temporal.Server.temporary(folder)):
        print((await standalone.start(server.service(die_with_parent=True), server.log)).pid, flush=True)
asyncio.run(main())
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as running:
        engines = [process.identify(int(running.stdout.readline())) for _ in range(2)]
        assert all(map(process.alive, engines))
        running.kill()
        running.wait()
    limit = time.monotonic() + 10
    while any(map(process.alive, engines)):
        assert time.monotonic() < limit
        time.sleep(0.01)
