"""The supervisor as a process of its own: ``python -m agentos.apps.embedded``, started by ``agentos up``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from agentos.apps.embedded.home import Home
from agentos.apps.embedded.plan import Programs
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.apps.embedded.supervisor import AlreadyRunning, Supervisor
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError, exit_code


def main(programs: Programs | None = None) -> None:
    """Supervise the home that AGENTOS_HOME names until SIGTERM. Its problem, if any, is left in the state file."""
    settings = EmbeddedSettings.read()
    try:
        asyncio.run(Supervisor(Home(settings.home), settings, programs, say=_say).run())
    except AlreadyRunning:
        sys.exit(0)  # two started at the same moment: the other one serves
    except AgentOSError as error:
        sys.exit(exit_code(error))


def _say(text: str) -> None:
    with suppress(OSError):  # the disk is full: what is said must not hinder what is done
        print(f"{now().isoformat(timespec='milliseconds')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
