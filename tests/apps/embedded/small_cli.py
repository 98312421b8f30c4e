"""The real command line, with the supervisor that starts small stand-ins."""

import sys
from pathlib import Path

import small_daemon

from agentos.apps.cli.main import main
from agentos.apps.embedded import verbs

verbs.DAEMON = (sys.executable, str(Path(__file__).with_name("small_daemon.py")))
verbs.PROGRAMS = small_daemon.PROGRAMS

if __name__ == "__main__":
    main()
