"""``python -m agentos.apps.api``: serve the API, until it is told to stop."""

from __future__ import annotations

import os
import sys
from types import FrameType

import uvicorn

from agentos.apps.api.app import create
from agentos.apps.api.server import config
from agentos.apps.cli import output
from agentos.apps.leaving import LEAVE_SECONDS, leave_within
from agentos.apps.settings import AppSettings
from agentos.kernel.errors import AgentOSError


class _Server(uvicorn.Server):
    """Ends in seconds once it is told to, also while what it speaks to never answers."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        leave_within(LEAVE_SECONDS)
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve on the address and port of the settings."""
    settings = AppSettings.read()
    _Server(config(create(), host=settings.host, port=settings.port)).run()


if __name__ == "__main__":
    try:
        main()
    except AgentOSError as error:
        output.fail(error)
    sys.stdout.flush()
    os._exit(0)
