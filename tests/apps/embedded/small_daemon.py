"""The real supervisor over the real engines, with small stand-ins for the platform's own programs."""

import sys
from pathlib import Path

from agentos.apps.embedded.__main__ import main
from agentos.apps.embedded.plan import Programs

_HERE = Path(__file__).parent
_SERVICE = (sys.executable, "-E", "-S", str(_HERE / "small_service.py"))
_JOB = (sys.executable, "-E", "-S", str(_HERE / "small_job.py"))

PROGRAMS = Programs(api=_SERVICE, worker=_SERVICE, migrate=_JOB, bootstrap=_JOB)

if __name__ == "__main__":
    main(PROGRAMS)
