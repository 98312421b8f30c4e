"""Services of a real stack are killed at random while runs go on, and nothing is lost, doubled or left open.

A stop is ordered meanwhile: no effect comes after it, and that is proved.

It is ``make chaos`` with smaller numbers. What it prints is shown when it fails, with the seed that throws its dice
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos.apps.embedded import verbs
from agentos.apps.embedded.home import Home

ROOT = Path(__file__).parents[2]
NEVER = (
    "runs lost",
    "runs doubled",
    "runs not completed",
    "effects doubled",
    "effects doubled, second receiver",
    "effects missing",
    "effects without a yes",
    "effects committed after a stop",
    "effects received after a stop",
)
SECONDS = 280  # it takes 50 on an idle machine; what it asserts holds however long it takes


@pytest.mark.timeout(SECONDS + 20)
def test_nothing_is_lost_or_doubled_while_services_are_killed(tmp_path: Path) -> None:
    home, results = tmp_path / "home", tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", "--short", "--home", str(home), "--results", str(results)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTOS_")}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    finally:
        verbs.down(Home(home), say=lambda _text: None)  # also when it was cut off
    told = f"{done.stdout}\n{done.stderr}"
    assert results.exists(), told
    found = {row["row"]: row["ours"] for row in json.loads(results.read_text())}
    assert found["kills"] >= 20, told
    assert found["runs"] == 100, told
    assert {name: found[name] for name in NEVER} == dict.fromkeys(NEVER, 0), told
    assert found["effects uncertain"] <= found["calls hit on the wire"], told
    assert found["stops ordered under kills"] == found["stops amid all kinds of kills"] == 1, told
    assert found["proofs of stop that verify"] == 2, told
