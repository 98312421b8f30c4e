"""``python -m agentos.apps.worker``: one worker, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

import structlog
import uvloop
from aiohttp import web

from agentos.adapters.events import listen_for_ever
from agentos.apps.cli import output
from agentos.apps.leaving import LEAVE_SECONDS, leave_within
from agentos.apps.parts import Catalogue, Process, consumers, process, worker
from agentos.apps.settings import BusSettings, EvalSettings, RolloutSettings
from agentos.apps.worker.events import taker
from agentos.control.approvals import ticker as approvals
from agentos.evidence.artifacts import indexing
from agentos.evidence.evals import service as evals
from agentos.evidence.quality import scorer
from agentos.evidence.recommendations import watch as drift
from agentos.evidence.replay import what_if
from agentos.evidence.subscriptions import dispatch as deliveries
from agentos.evidence.usage import counting
from agentos.intake.identity import sessions
from agentos.intake.requests import service as requests
from agentos.intake.triggers import service as triggers
from agentos.intake.triggers import ticker as schedules
from agentos.kernel import outbox
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import consume
from agentos.kernel.retention import forget_for_ever
from agentos.kernel.settings import BadSetting
from agentos.operations.notifications import dispatch as messages
from agentos.operations.rollouts import watch as rollouts
from agentos.operations.shadows import showing
from agentos.runtime.gateway import asking

KEPT: Final = (
    deliveries.KEPT,
    messages.KEPT,
    triggers.KEPT,
    sessions.KEPT,
    requests.KEPT,
    asking.KEPT,
    outbox.KEPT,
    indexing.KEPT,
    showing.KEPT,
    scorer.KEPT,
    evals.KEPT,
    evals.BILLS_KEPT,
    what_if.BILLS_KEPT,
    indexing.WORDS_KEPT,
    counting.KEPT,
)

log = structlog.get_logger(__name__)


async def main() -> None:
    """Work until SIGTERM; segments under way are handed on, nothing is lost when they are not.

    It ends in seconds, also while what it speaks to never answers.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with process(eager=False) as held:
        metrics = await _metrics(held)
        tasks = [
            asyncio.create_task(held.parts.halts.watch_for_ever(held.parts.doors, held.runs, stop)),
            asyncio.create_task(held.keeper.keep_for_ever(stop)),
            asyncio.create_task(_serve(held, stop)),
            asyncio.create_task(consume(held.parts.database, consumers(held), stop)),
            *([asyncio.create_task(held.chainer.chain_for_ever(stop))] if held.chainer is not None else []),
            asyncio.create_task(schedules.tick_for_ever(held.parts.doors, held.parts.meter, stop)),
            asyncio.create_task(approvals.tick_for_ever(held.parts.doors, held.parts.meter, stop)),
            *_buses(held, stop),
            asyncio.create_task(held.dispatch.deliver_for_ever(stop)),
            asyncio.create_task(forget_for_ever(held.parts.database, KEPT, stop)),
            asyncio.create_task(held.notifications.send_for_ever(stop)),
            asyncio.create_task(held.counting.mark_for_ever(stop)),
            asyncio.create_task(_watch(held, stop)),
            asyncio.create_task(drift.look_for_ever(held.parts.doors, stop)),
            asyncio.create_task(held.run_engine.sweep_for_ever(held.runs.sweep_seconds, stop)),
        ]
        log.info("worker_started", skills=[f"{one.name}@{one.version}" for one in held.parts.registry.every()])
        await stop.wait()
        leave_within(max(LEAVE_SECONDS, EvalSettings.read().leave_seconds + 1))
        await asyncio.gather(*tasks, return_exceptions=True)
        await metrics.cleanup()


async def _watch(held: Process, stop: asyncio.Event) -> None:
    skills = Catalogue(held.parts.registry, held.keeper)
    await rollouts.watch_for_ever(held.parts.doors, skills, RolloutSettings.read(), held.parts.meter, stop)


def _buses(held: Process, stop: asyncio.Event) -> list[asyncio.Task[None]]:
    settings = BusSettings.read()
    if not settings.url:
        return []
    take = taker(held.parts.doors, OrgId(settings.organization), held.parts.meter)
    return [asyncio.create_task(listen_for_ever(settings, take, held.parts.meter, stop))]


async def _serve(held: Process, stop: asyncio.Event) -> None:
    """Poll for work; when the engine is away at the start, or the poller gives up, begin again."""
    while not stop.is_set():
        try:
            async with await worker(held, inline_only=False):
                await stop.wait()
        except Exception as error:  # the worker outlives every outage of the engine
            log.warning("worker_waits_for_engine", error=type(error).__name__)
            await asyncio.sleep(0.5)


async def _metrics(held: Process) -> web.AppRunner:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=held.parts.meter.page(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    address = f"{held.app.host}:{held.app.metrics_port}"
    try:
        await web.TCPSite(runner, held.app.host, held.app.metrics_port).start()
    except OSError as error:
        await runner.cleanup()
        raise BadSetting(
            f"AGENTOS_METRICS_PORT: metrics cannot be shown at {address}", then="Choose a port that is free."
        ) from error
    return runner


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except AgentOSError as error:
        output.fail(error)
    sys.stdout.flush()
    os._exit(0)  # a skill that never ends holds a thread; it must not hold the process
