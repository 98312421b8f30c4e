"""``python -m agentos.apps.api``: serve the API, until it is told to stop."""

from __future__ import annotations

import os
import sys

import uvicorn

from agentos.apps.api.app import create
from agentos.apps.api.server import config
from agentos.apps.cli import output
from agentos.apps.settings import AppSettings
from agentos.kernel.errors import AgentOSError


def main() -> None:
    """Serve on the address and port of the settings."""
    settings = AppSettings.read()
    uvicorn.Server(config(create(), host=settings.host, port=settings.port)).run()


if __name__ == "__main__":
    try:
        main()
    except AgentOSError as error:
        output.fail(error)
    sys.stdout.flush()
    os._exit(0)
