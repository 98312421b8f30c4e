"""A stand-in for the migration and the bootstrap: notes that it ran, with which addresses, and ends."""

import os
import sys

name = os.environ["AGENTOS_SERVICE"]
print(name, os.environ["TEMPORAL_ADDRESS"], "database" if os.environ["DATABASE_URL"] else "none", flush=True)  # noqa: T201 - what its log shows
sys.exit(4 if name in os.environ.get("TEST_BROKEN", "").split() else 0)
