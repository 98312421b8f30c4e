"""The workshop keeps its word: what is missing is named, and the locks hold what pyproject.toml asks for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.txt", "tools/uv.txt", "benchmarks/peers.txt")


def prerequisites(programs: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the check on a machine whose PATH holds only the given programs."""
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "prerequisites.sh"), python],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


def install(programs: Path, name: str, script: str | None = None) -> None:
    """Put a program on the machine: the real one, or one that runs the given script."""
    if script is None:
        real = next(Path(folder) / name for folder in os.defpath.split(":") if (Path(folder) / name).exists())
        (programs / name).symlink_to(real)
    else:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with all that is needed."""
    for name in ("git", "make", "cut"):
        install(tmp_path, name)
    install(tmp_path, "uname", "echo Linux")
    install(tmp_path, "getconf", "echo glibc 2.36")
    return tmp_path


def test_a_complete_machine_is_told_nothing(machine: Path) -> None:
    result = prerequisites(machine)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["git", "make"])
def test_a_missing_program_is_named_in_one_line(machine: Path, name: str) -> None:
    (machine / name).unlink()
    result = prerequisites(machine)
    assert result.returncode == 1
    assert re.fullmatch(rf"missing: {name}\. Install .+\n", result.stderr)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("exit 127", r"missing: Python 3\.11 or newer \(.*does not run\).*make PYTHON=.*\n"),
        (
            '[ "$1" = -V ] && echo Python 3.9.1; [ "$2" = "" ]',
            r"missing: Python 3\.11 or newer \(.*Python 3\.9\.1\).*\n",
        ),
        ('case "$2" in *venv*) exit 1;; esac', r"missing: the modules venv and ensurepip.*python3-venv\.\n"),
    ],
)
def test_an_unfit_python_is_named_in_one_line(machine: Path, script: str, line: str) -> None:
    install(machine, "python3", script)
    result = prerequisites(machine, str(machine / "python3"))
    assert result.returncode == 1
    assert re.fullmatch(line, result.stderr)


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo glibc 2.31", "this is 2.31"), ("echo glibc 1.99", "this is 1.99"), ("exit 1", "another C library")],
)
def test_an_unfit_c_library_is_named_in_one_line(machine: Path, script: str, said: str) -> None:
    install(machine, "getconf", script)
    result = prerequisites(machine)
    assert result.returncode == 1
    assert re.fullmatch(rf"missing: glibc 2\.36 or newer \(.*{said}\)\. Use .+\n", result.stderr)


def test_a_newer_c_library_is_fine(machine: Path) -> None:
    install(machine, "getconf", "echo glibc 2.41.9000")
    assert prerequisites(machine).returncode == 0


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    for line in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        asked = Requirement(line)
        version = locked.get(canonicalize_name(asked.name))
        assert version is not None, f"{line} is not locked: run make lock"
        assert asked.specifier.contains(version, prereleases=True), f"{line} is locked at {version}: run make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)
    entries = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert entries
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_a_machine_without_apt_is_told_so_and_goes_on(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "tools").mkdir()
    script = checkout / "tools" / "debian.sh"
    script.write_text((ROOT / "tools" / "debian.sh").read_text())
    for name in ("dirname", "cat"):
        install(machine, name)
    result = subprocess.run(
        ["/bin/sh", str(script)], env={"PATH": str(machine)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "no apt-get here: the tests that need prometheus are skipped" in result.stderr
