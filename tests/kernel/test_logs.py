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


SAYS = """
import logging, structlog
from agentos.control.privacy.service import Privacy, cleaner
from agentos.kernel.settings import LogSettings
from agentos.kernel.telemetry import configure_logs
configure_logs(LogSettings.read(), "tester", cleaner(Privacy()))
log = structlog.get_logger("ours")
log.info("paid", card="4111 1111 1111 1111", arguments={"to": ["ann@example.com"], "password": "x"}, run_id="run_1")
logging.getLogger("a_library").warning("cannot reach %s", "postgres://app:hunter22@db/x")
try:
    raise RuntimeError("no mail to ann@example.com")
except RuntimeError:
    log.exception("failed", n=7, odd=object)
deep = []
for _ in range(500):
    deep = [deep]
log.info("deep", deep=deep)
"""


def test_a_log_line_holds_no_personal_data() -> None:
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True)
    paid, library, failed, deep = [json.loads(line) for line in done.stderr.splitlines()]
    assert paid["card"] == "[REDACTED: CARD]"
    assert paid["arguments"] == {"to": ["[REDACTED: EMAIL]"], "password": "[REDACTED: PASSWORD]"}
    assert paid["run_id"] == "run_1"
    assert library["event"] == "cannot reach postgres://app:[REDACTED: PASSWORD]@db/x"
    assert failed["exception"][0]["exc_value"] == "no mail to [REDACTED: EMAIL]"
    assert failed["n"] == 7
    assert deep["deep"] == "[REDACTED: UNREADABLE]"
