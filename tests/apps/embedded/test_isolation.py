"""Root and ordinary users get a stack, and no mode or owner above the home changes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from agentos.apps.embedded import isolation, process
from agentos.apps.embedded.home import HomeDamaged, Memory
from agentos.apps.embedded.isolation import GlibcTooOld, IsolationRefused, RootNeeded

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as somebody else")


@pytest.fixture
def ordinary(stack) -> tuple[str, ...]:
    """A prefix that makes an ordinary user: a real one if it can reach this Python, else one of a user namespace."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    real = ("setpriv", "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups", "--")
    # setpriv itself execs with root's powers, so only a second exec shows what the user can reach.
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import agentos'], check=True)"
    reach = [*real, sys.executable, "-c", again]
    if subprocess.run(reach, capture_output=True).returncode == 0:
        shutil.chown(stack.home.path.parents[1], nobody.pw_uid)
        return real
    return ("unshare", "--user", "--map-user=1000", "--")


@pytest.fixture
def system_user(stack):
    """Nothing of the system user remains that was not there before."""
    known = _exists(isolation.SYSTEM_USER)
    yield
    stack.down()
    if memory := stack.home.memory():
        shutil.rmtree(isolation.SYSTEM_FOLDER / memory.id)
    with suppress(OSError):  # other homes of this machine
        isolation.SYSTEM_FOLDER.rmdir()
    if not known:
        subprocess.run(["userdel", isolation.SYSTEM_USER], check=True)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


@needs_root
def test_root_starts_postgres_in_a_user_namespace(stack, untouched, monkeypatch):
    monkeypatch.setenv("AGENTOS_POSTGRES_ISOLATION", "namespace")
    stack.up(workers=0)
    pid = stack.entry("postgres").pid
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["1000", "0", "1"]
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text()
    stack.kill("postgres")


@needs_root
def test_where_namespaces_are_refused_root_starts_postgres_as_a_system_user(
    stack, untouched, system_user, monkeypatch, tmp_path
):
    refusing = tmp_path / "bin"
    refusing.mkdir()
    (refusing / "unshare").write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2; exit 1\n"
    )
    (refusing / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing}:{os.environ['PATH']}")
    stack.up(workers=0)
    user = pwd.getpwnam(isolation.SYSTEM_USER)
    assert f"Uid:\t{user.pw_uid}" in Path(f"/proc/{stack.entry('postgres').pid}/status").read_text()
    data = isolation.SYSTEM_FOLDER / stack.home.memory().id / "data"
    assert data.stat().st_uid == user.pw_uid and data.parent.stat().st_mode & 0o777 == 0o700
    assert not (stack.home.postgres / "data").exists()
    stack.kill("postgres")
    before = stack.pids()
    stack.kill_supervisor()
    stack.up()
    assert stack.pids() == before

    stack.down()
    monkeypatch.setenv("PATH", os.environ["PATH"].removeprefix(f"{refusing}:"))
    with pytest.raises(HomeDamaged, match=r"lies in /var/lib/agentos/.* as namespace"):  # never a silently empty one
        stack.up()


def test_an_ordinary_user_starts_everything_as_himself(stack, ordinary, untouched, agentos):
    before = agentos.home.parents[1].stat().st_uid
    code, _, err = agentos("up", "--workers", "1", prefix=ordinary)
    assert code == 0, err
    pid = stack.entry("postgres").pid
    assert process.command_line(pid) and Path(f"/proc/{pid}").stat().st_uid == before
    stack.kill("postgres")
    stack.kill_supervisor()
    pids = stack.pids()
    code, _, err = agentos("up", prefix=ordinary)
    assert code == 0 and stack.pids() == pids, err
    code, out, err = agentos("down", prefix=ordinary)
    assert code == 0 and "worker-1" in out, err


def test_an_unwritable_place_is_refused_in_one_line(stack, ordinary, agentos):
    stack.home.path.parents[1].chmod(0o500)
    code, out, err = agentos("up", prefix=ordinary)
    stack.home.path.parents[1].chmod(0o700)
    assert (code, out) == (3, "") and "home_unusable: The home cannot be used: Permission denied" in err


def test_a_machine_without_unshare_or_glibc_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(process.ProgramMissing, match="'unshare' is not installed"):
        isolation.choose("namespace", tmp_path, "x")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(IsolationRefused, match=r"'unshare' is not installed; .*DATABASE_URL"):
        isolation.choose("auto", tmp_path, "x")
    for found in ("glibc 2.17", "glibc 2.27"):
        monkeypatch.setattr(os, "confstr", lambda _, found=found: found)
        with pytest.raises(GlibcTooOld, match=f"{found}; .* glibc 2.28 or newer"):
            isolation.choose("auto", tmp_path, "x")
    monkeypatch.setattr(os, "confstr", lambda _: None)
    with pytest.raises(GlibcTooOld, match="no glibc"):
        isolation.choose("auto", tmp_path, "x")


def test_only_root_may_become_the_system_user(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RootNeeded):
        isolation.choose("system_user", tmp_path, Memory.new().id)
