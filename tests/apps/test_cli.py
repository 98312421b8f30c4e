from __future__ import annotations

import subprocess
import sys

HEAVY = ("sqlalchemy", "temporalio", "fastapi", "opentelemetry", "pydantic_ai")


def test_the_command_line_starts_without_what_only_the_platform_needs() -> None:
    asked = f"import sys, agentos.apps.cli.main; print([one for one in {HEAVY!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
