"""Temporal: how a process connects, which timeouts make a lost worker noticed in seconds, and how errors cross it."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from agentos.kernel.errors import AgentOSError, Unavailable, retryable
from agentos.kernel.settings import TemporalSettings

# Measured after a worker's kill -9 with these four: taken over in 2.4–3.0 s alone, p95 5 s under repeated kills.
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=2)
STICKY_TIMEOUT: Final = timedelta(seconds=1)
WORKFLOW_TASK_TIMEOUT: Final = timedelta(seconds=2)
FIRST_RETRY: Final = timedelta(milliseconds=100)

# An activity is tried until its engine or its database is back: its own errors decide when it ends.
ACTIVITY_RETRY: Final = RetryPolicy(
    initial_interval=FIRST_RETRY, backoff_coefficient=2.0, maximum_interval=timedelta(seconds=2)
)

RPC_TIMEOUT: Final = timedelta(seconds=5)  # an answer from a healthy engine takes milliseconds

_AWAY: Final = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.INTERNAL,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.ABORTED,
}


class EngineUnavailable(Unavailable):
    """Temporal does not answer. Accepted work is kept and goes on when it is back."""

    code = "engine_unavailable"


class Link:
    """A process's connection to Temporal, made when first needed, so a process starts while the engine is away."""

    def __init__(self, settings: TemporalSettings, *, identity: str) -> None:
        self._settings = settings
        self._identity = identity
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def client(self) -> Client:
        """The client; once connected it finds the engine again by itself. Raises EngineUnavailable."""
        async with self._lock:
            if self._client is None:
                try:
                    self._client = await Client.connect(
                        self._settings.address,
                        namespace=self._settings.namespace,
                        identity=self._identity,
                        connect_timeout=RPC_TIMEOUT,
                        runtime=_runtime(),
                    )
                except (RuntimeError, RPCError) as error:
                    raise EngineUnavailable(
                        "the engine does not answer", then="Accepted work goes on when it is back."
                    ) from error
            return self._client


@functools.cache
def _runtime() -> Runtime:
    """One for the process: it owns the threads below every client."""
    return Runtime(telemetry=TelemetryConfig(metrics=None))


def engine_away(error: RPCError) -> bool:
    """Whether an error of the client means that Temporal does not answer, rather than that it refuses."""
    return error.status in _AWAY


def across(error: AgentOSError) -> ApplicationError:
    """An error in the form that crosses Temporal: its code as type, tried again only if its kind may pass."""
    return ApplicationError(error.what, type=error.code, non_retryable=not retryable(error))
