"""The dependency by which every route learns who is asking."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agentos.intake.identity import service
from agentos.intake.identity.model import Caller, Unauthorized
from agentos.kernel.http import DoorsDep

_bearer = HTTPBearer(auto_error=False, description="A key of a person or a machine.")


async def caller(doors: DoorsDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    """Who is asking. Raises Unauthorized (401)."""
    if given is None:
        raise Unauthorized("this needs a key", then="Send 'Authorization: Bearer KEY'.")
    found = await service.caller_of(doors.database, given.credentials)
    structlog.contextvars.bind_contextvars(org=found.organization)
    return found


CallerDep = Annotated[Caller, Depends(caller)]
