"""What an earlier supervisor left: adopted if it is wanted as it is, ended if it is ours, left alone if it is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from agentos.apps.embedded import process, verbs
from agentos.apps.embedded.home import Desired
from agentos.apps.embedded.supervisor import ServiceFailed


@pytest.fixture
def stranger():
    """A process that the stack did not start."""
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield running
    assert running.poll() is None, "the stranger was ended"
    running.kill()
    running.wait()


def test_after_a_kill_of_the_supervisor_the_next_up_adopts_the_same_processes(stack):
    stack.up()
    before = stack.pids()
    stack.kill_supervisor()
    assert {row["state"] for row in verbs.ps(stack.home)} == {"unsupervised"}
    assert verbs.status(stack.home)["phase"] == "unsupervised"
    with pytest.raises(verbs.NotRunning):
        verbs.restart(stack.home, "api")
    stack.up()
    assert stack.pids() == before and None not in before.values()
    for name in ("postgres", "worker-1"):  # watched like children of its own
        stack.kill(name)
    assert verbs.status(stack.home)["ready"]


def test_down_without_a_supervisor_still_stops_everything(stack):
    stack.up()
    stack.kill_supervisor()
    assert stack.down() == ["postgres", "temporal", "api", "worker-1", "worker-2"]
    assert stack.processes() == []


def test_what_died_while_nobody_watched_is_started_and_the_rest_is_adopted(stack):
    stack.up()
    stack.kill_supervisor()
    before = stack.pids()
    for name in ("postgres", "worker-2"):
        process.end([stack.entry(name).identity], signal.SIGKILL)
    stack.up()
    after = stack.pids()
    assert {name for name in after if after[name] == before[name]} == {"temporal", "api", "worker-1"}
    assert verbs.status(stack.home)["ready"]


def test_what_is_no_longer_wanted_or_was_started_otherwise_is_ended(stack):
    stack.up(workers=2)
    stack.kill_supervisor()
    stack.home.want(Desired(workers=1))
    state = stack.home.state()
    next(entry for entry in state.services if entry.name == "api").recipe = "of an older release"
    stack.home.write_state(state)
    before = stack.pids()
    stack.up()
    after = stack.pids()
    assert set(after) == {"postgres", "temporal", "api", "worker-1"}
    assert {name for name in after if after[name] != before[name]} == {"api"}
    stack.until(lambda: "worker-2" not in stack.processes())


def test_with_the_state_file_lost_orphans_are_found_and_ended(stack):
    stack.up(workers=1)
    stack.kill_supervisor()
    before = stack.pids()
    (stack.home.path / "state.json").write_text("{torn")
    stack.up()
    assert not set(before.values()) & set(stack.pids().values())
    assert verbs.status(stack.home)["ready"]
    assert not any(process.identify(pid) for pid in before.values())


def test_a_pid_that_the_system_gave_to_a_stranger_is_left_alone(stack, stranger):
    stack.up(workers=1)
    stack.kill_supervisor()
    worker = stack.entry("worker-1").identity
    process.end([worker, stack.entry("postgres").identity], signal.SIGKILL)
    state = json.loads((stack.home.path / "state.json").read_text())
    for entry in state["services"]:
        if entry["name"] in ("worker-1", "postgres"):
            entry["pid"] = stranger.pid
    (stack.home.path / "state.json").write_text(json.dumps(state))
    lines = (stack.home.postgres / "data/postmaster.pid").read_text().splitlines()
    (stack.home.postgres / "data/postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    stack.up()
    assert verbs.status(stack.home)["ready"]
    stack.down()
    assert stranger.poll() is None


def test_a_service_that_cannot_live_fails_the_start_and_leaves_nothing_running(stack, monkeypatch):
    monkeypatch.setenv("TEST_BROKEN", "worker-2")
    with pytest.raises(ServiceFailed, match=r"worker-2 died 5 times while starting .*agentos logs worker-2"):
        stack.up()
    assert stack.processes() == []
    assert "broken on purpose" in verbs.logs(stack.home, "worker-2", 1)


def test_a_failing_job_names_its_log_and_leaves_what_was_adopted(stack, monkeypatch):
    stack.up(workers=1)
    before = stack.pids()
    stack.kill_supervisor()
    monkeypatch.setenv("TEST_BROKEN", "migrate")
    with pytest.raises(ServiceFailed, match=r"migrate failed \(exit code 4\) .*agentos logs migrate"):
        stack.up()
    assert {row["pid"] for row in verbs.ps(stack.home)} == set(before.values())
    monkeypatch.delenv("TEST_BROKEN")
    stack.up()
    assert stack.pids() == before


def test_two_ups_at_once_make_one_stack(stack, agentos):
    both = [agentos.start("up", "--json") for _ in range(2)]
    answers = [one.communicate(timeout=90) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert len(stack.processes()) >= 5 and stack.processes().count("api") == 1
    code, _, err = agentos("up", "--foreground")
    assert code == 5 and "already_running" in err


def test_foreground_serves_until_it_is_interrupted(stack, agentos):
    running = agentos.start("up", "--foreground", "--workers", "1")
    stack.until(lambda: stack.home.state().phase == "running")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0 and "ready" in err and "stopping" in err
    assert stack.processes() == []
