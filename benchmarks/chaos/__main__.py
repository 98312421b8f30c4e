"""``python -m benchmarks.chaos``: run the experiment, print what was found, and exit with 1 if a target is missed."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.chaos.experiment import FULL, SHORT, Found, experiment
from benchmarks.chaos.rows import keep, rows, tell


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the one of the tests")
    parser.add_argument("--seed", type=int, default=None, help="of all dice; printed, so that it can be given again")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--deletions", type=int)
    parser.add_argument("--stops", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--home", type=Path, help="of the stack; a new folder, removed at the end unless --keep")
    parser.add_argument("--results", type=Path, help="a file for the rows, beside the one in build/bench")
    parser.add_argument("--keep", action="store_true", help="keep the home, also when all targets are met")
    given = parser.parse_args()
    sizes = ("kills", "runs", "deletions", "stops", "workers", "minutes")
    size = replace(
        SHORT if given.short else FULL, **{name: getattr(given, name) for name in sizes if getattr(given, name)}
    )
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    home = given.home or Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    say(f"seed {seed}, {size}, home {home}")
    found = asyncio.run(_stoppable(experiment(home, size, seed, say)))
    keep(found, home / "evidence.json")
    tell(found, say)
    table = rows(found)
    if given.results:
        given.results.write_text(json.dumps([row.document() for row in table]))
    good = all(row.met is not False for row in table)
    if good and not given.keep:
        shutil.rmtree(home, ignore_errors=True)
    else:
        say(f"the home is kept: {home}")
    return 0 if good else 1


async def _stoppable(work: Coroutine[Any, Any, Found]) -> Found:
    """Let SIGTERM end the experiment in order: its stack must not outlive it."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


if __name__ == "__main__":
    sys.exit(main())
