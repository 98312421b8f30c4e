"""Logs name the work and show where it failed; what was in the hands of the code that failed is not theirs to tell."""

from __future__ import annotations

import json
import subprocess
import sys

FAILS = """
import logging, structlog
from agentos.kernel.settings import LogSettings
from agentos.kernel.telemetry import configure_logs
configure_logs(LogSettings.read(), "tester")
def fails(key):
    raise RuntimeError("no")
for log in (structlog.get_logger("ours").exception, logging.getLogger("a_library").exception):
    try:
        fails("aos_" + "verysecret")
    except RuntimeError:
        log("it_failed")
"""


def test_a_stack_in_the_log_holds_no_values() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["it_failed", "it_failed"]
    assert all(line["service"] == "tester" and line["exception"][0]["frames"][-1]["name"] == "fails" for line in lines)
    assert "verysecret" not in done.stderr
