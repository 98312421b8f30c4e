"""A process that is told to stop ends in time, whatever hangs."""

from __future__ import annotations

import os
import threading
from typing import Final

import structlog

log = structlog.get_logger(__name__)

# 'agentos down' and 'docker stop' kill after ten. A statement that a vanished database never answers has no end of its
# own, and an engine that swallows packets is let go after half a minute.
LEAVE_SECONDS: Final = 9.0


def leave_within(seconds: float) -> None:
    """End this process after so long at the latest, as if it had died: what it held is taken over by another."""
    last = threading.Timer(seconds, _leave, [seconds])
    last.daemon = True
    last.start()


def _leave(seconds: float) -> None:
    log.warning("left_in_the_middle", seconds=seconds)
    os._exit(0)
