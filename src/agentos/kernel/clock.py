"""Time is an argument: code that decides takes ``at``; only the edges read a clock, and they read it here.

Wall time orders nothing and times nothing out: a machine's clock can be set back. Order comes from sequences, deadlines
inside a process from ``elapsed``, which also counts while the machine is suspended or the process is frozen.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present as an aware UTC datetime. For edges (routes, activities, the CLI) only."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Seconds on a clock that never goes back and does not stop while the process is frozen or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
