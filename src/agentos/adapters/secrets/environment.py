"""Secrets from the environment: ``secret://billing-hook`` is the variable ``AGENTOS_SECRET_BILLING_HOOK``."""

from __future__ import annotations

import os
import re

from agentos.kernel.errors import NotFound


class SecretMissing(NotFound):
    """A secret that is asked for by name is not set."""

    code = "secret_missing"


def environment_secret(name: str) -> str:
    """The value of a secret, read at each call so that a restart with a new one is enough. Raises SecretMissing."""
    variable = "AGENTOS_SECRET_" + re.sub(r"[^A-Z0-9]", "_", name.upper())[:64]
    value = os.environ.get(variable, "")
    if not value:
        raise SecretMissing(f"there is no secret '{name[:64]}'", then=f"Set {variable} for the workers.")
    return value
