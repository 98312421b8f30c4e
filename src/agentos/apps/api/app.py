"""The API as one FastAPI application over a process's parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import structlog
from fastapi import FastAPI

from agentos import __version__
from agentos.apps.api import health, signing
from agentos.apps.api.masking import Masking
from agentos.apps.parts import Catalogue, Process, process, worker
from agentos.apps.settings import EvidenceSettings, GatewaySettings, OidcSettings, StopSettings
from agentos.control.agents import routes as agents
from agentos.control.approvals import routes as approvals
from agentos.control.budgets import routes as budgets
from agentos.control.deployments import routes as deployments
from agentos.control.policy import routes as policies
from agentos.control.privacy import routes as privacy
from agentos.control.stops import routes as stops
from agentos.evidence.artifacts import routes as artifacts
from agentos.evidence.artifacts.asking import Teller
from agentos.evidence.artifacts.service import Evidence
from agentos.evidence.effects import routes as effects
from agentos.evidence.evals import routes as evals
from agentos.evidence.ledger import routes as ledger
from agentos.evidence.quality import routes as quality
from agentos.evidence.recommendations import routes as recommendations
from agentos.evidence.replay import routes as replay
from agentos.evidence.subscriptions import routes as subscriptions
from agentos.evidence.usage import routes as usage
from agentos.intake.identity import routes as identity
from agentos.intake.identity.oidc import Provider
from agentos.intake.identity.refusals import Refusals
from agentos.intake.inbox import routes as inbox
from agentos.intake.requests.rates import Rates
from agentos.intake.requests.turns import Turns
from agentos.intake.triggers import routes as triggers
from agentos.kernel import http
from agentos.kernel.telemetry import Meter
from agentos.operations.notifications import routes as notifications
from agentos.operations.rollouts import routes as rollouts
from agentos.operations.shadows import routes as shadows
from agentos.runtime.gateway import routes as gateway
from agentos.runtime.gateway.talks import Gateway
from agentos.runtime.inference import routes as models
from agentos.runtime.runs import routes as runs
from agentos.runtime.skills import routes as skills

log = structlog.get_logger(__name__)

# In this order: /agents/triggers, …/deployments, …/policies, …/quality, …/effects and …/evidence stand before
# /agents/{agent_id}.
ROUTERS = (
    health.router,
    signing.router,
    identity.router,
    inbox.router,
    triggers.router,
    stops.router,
    deployments.router,
    rollouts.router,
    shadows.router,
    policies.router,
    replay.router,
    effects.router,
    evals.router,
    quality.router,
    recommendations.router,
    artifacts.router,
    agents.router,
    approvals.router,
    budgets.router,
    usage.router,
    privacy.router,
    models.router,
    runs.router,
    skills.router,
    gateway.router,
    gateway.tests,
    replay.replays,
    ledger.router,
    subscriptions.router,
    notifications.router,
)

Opened = Callable[[], AbstractAsyncContextManager[Process]]


def create(opened: Opened = lambda: process(eager=True), *, body_seconds: float = http.BODY_SECONDS) -> FastAPI:
    """The API. Its parts are opened when it starts and given back when it stops."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as held:
            app.state.process, app.state.parts, app.state.doors = held, held.parts, held.parts.doors
            app.state.rates = Rates(held.requests.rate_per_minute)
            limits = held.requests
            app.state.turns = Turns(limits.at_once, limits.at_once_each, limits.waiting, limits.rest)
            app.state.refusals = Refusals(held.parts.doors, held.parts.meter)
            app.state.provider = Provider(OidcSettings.read())
            app.state.secret = held.parts.secret
            app.state.stops = StopSettings.read()
            app.state.skills, app.state.models = Catalogue(held.parts.registry, held.keeper), held.models
            app.state.registry, app.state.keeper = held.parts.registry, held.keeper
            app.state.router = held.parts.router
            app.state.receivers, app.state.signer = held.receivers, held.signer
            app.state.anchors = held.anchors
            app.state.privacy, app.state.traces = held.parts.privacy, held.parts.traces
            app.state.readers = held.messages
            teller = Teller(held.parts, lambda: held.models.listing(), EvidenceSettings.read())
            app.state.evidence = Evidence(held.parts.doors, held.embedder, teller)
            app.state.gateway = Gateway(held.parts, lambda: held.models.listing(), GatewaySettings.read())
            meter.follow(held.parts.meter)
            stop = asyncio.Event()
            tasks = [
                asyncio.create_task(held.parts.halts.watch_for_ever(held.parts.doors, held.runs, stop)),
                asyncio.create_task(_embedded_worker(held, stop)),
                asyncio.create_task(held.keeper.keep_for_ever(stop)),
                asyncio.create_task(app.state.refusals.count_for_ever(stop)),
            ]
            yield
            stop.set()
            await app.state.gateway.close()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

    meter = _LateMeter()
    app = FastAPI(
        title="AgentOS",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url="/api/v1/docs",
        redoc_url=None,
        lifespan=life,
    )
    http.install(app, meter, body_seconds=body_seconds, regions=(gateway.REGION, evals.REGION))
    app.add_middleware(Masking, state=app.state)
    for router in ROUTERS:
        app.include_router(router)
    return app


class _LateMeter(Meter):
    """Stands in for the process's meter until the process is put together."""

    def follow(self, meter: Meter) -> None:
        """Measure on this meter from now on."""
        self.registry, self._series = meter.registry, meter._series
        self._seen, self._found, self._unset = meter._seen, meter._found, meter._unset


async def _embedded_worker(held: Process, stop: asyncio.Event) -> None:
    """Take workflow tasks and inline segments; segments under heartbeats are the workers' business."""
    while not stop.is_set():
        try:
            async with await worker(held, inline_only=True):
                await stop.wait()
        except Exception as error:  # the API serves on while the engine is away
            log.warning("api_worker_waits_for_engine", error=type(error).__name__)
            await asyncio.sleep(0.5)
