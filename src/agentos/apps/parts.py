"""Put a process together: the one place where settings, adapters and features meet."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from agentos.adapters.embeddings import embeddings
from agentos.adapters.events.webhook import Webhooks
from agentos.adapters.llm import Providers
from agentos.adapters.llm.stub import load_behaviours
from agentos.adapters.notify import ways
from agentos.adapters.secrets.environment import environment_secret
from agentos.adapters.skills import BUILT_IN
from agentos.apps.facts import told_outside
from agentos.apps.settings import (
    AppSettings,
    ClaudeSettings,
    DatabaseSettings,
    EmbeddingSettings,
    EvalSettings,
    HttpSettings,
    LedgerSettings,
    LogSettings,
    NotificationSettings,
    OpenAISettings,
    PrivacySettings,
    RegistrySettings,
    RequestSettings,
    RouterSettings,
    RunSettings,
    SigningSettings,
    SlackSettings,
    SmtpSettings,
    TemporalSettings,
    TraceSettings,
    WebhookSettings,
    roots,
    skill_modules,
)
from agentos.control.agents.ports import Resolved
from agentos.control.approvals.answers import Answers, hiding
from agentos.control.privacy.ports import recognizer_of
from agentos.control.privacy.service import Privacy, cleaner
from agentos.evidence.artifacts.indexing import Artifacts, Embedder
from agentos.evidence.evals.activities import activities as eval_activities
from agentos.evidence.evals.engine import EvalEngine
from agentos.evidence.evals.workflow import EvalFlow
from agentos.evidence.ledger.anchors import Anchors
from agentos.evidence.ledger.chainer import Chainer
from agentos.evidence.quality.scorer import Scorer
from agentos.evidence.subscriptions.dispatch import Dispatch
from agentos.evidence.usage.counting import Counting
from agentos.kernel.database import Database
from agentos.kernel.durable import HEARTBEAT_TIMEOUT, STICKY_TIMEOUT, Link
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Consumer
from agentos.kernel.settings import BadSetting
from agentos.kernel.signing import Signer
from agentos.kernel.telemetry import Meter, configure_logs
from agentos.kernel.telemetry.catalogue import REGISTRY_OPERATIONS, SKILLS_LOADED
from agentos.kernel.telemetry.traces import opened
from agentos.kernel.unit_of_work import Doors, Hint, UnitOfWork
from agentos.operations.notifications.dispatch import Notifications
from agentos.operations.shadows.showing import Shadows
from agentos.runtime.inference.limits import SharedLimits
from agentos.runtime.inference.standings import Board
from agentos.runtime.runs.activities import activities
from agentos.runtime.runs.engine import Engine, RunEngine
from agentos.runtime.runs.firings import Firings
from agentos.runtime.runs.messages import Messages
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.workflow import AgentRun
from agentos.runtime.skills import Registry, registered
from agentos.runtime.skills.registered import Keeper

# Objects that outlive each other between two looks for garbage, and looks between two that look further back. Python's
# 700 fits a script; a busy process makes them in a millisecond. A run that waited, and whose workflow the worker has
# forgotten, leaves a hundred objects (25 kB) that only a full look finds: with Python's 10 and 10 those of 13,000 runs
# pile up.
GC_THRESHOLDS: Final = (5_000, 2, 2)
SAMPLES: Final = "agentos.apps.demo.behaviour"  # what the sample agents do when their model is the stub


class Catalogue:
    """The loaded skills, as control sees them. Without a keeper nothing is registered."""

    def __init__(self, registry: Registry, keeper: Keeper | None = None) -> None:
        self._registry, self._keeper = registry, keeper

    async def settle(self) -> None:
        """Return once what is loaded was compared with what is registered. Raises DatabaseUnavailable."""
        if self._keeper is not None:
            await self._keeper.settle()

    def resolve(self, name: str, wanted: str) -> Resolved:
        """The loaded skill that is meant. Raises SkillUnknown, SkillVersionMalformed, SkillWithheld (Conflict)."""
        found = self._registry.resolve(name, wanted)
        return Resolved(found.version, found.digest, found.effect, found.input_schema)

    async def breaking(self, work: UnitOfWork, name: str, was: str, now: str) -> Sequence[str]:
        """Why version ``now`` of a skill breaks who relied on version ``was``."""
        return await registered.breaking(work, name, was, now)


@dataclass(slots=True)
class Process:
    """Everything a process of the platform holds."""

    app: AppSettings
    runs: RunSettings
    requests: RequestSettings
    temporal: TemporalSettings
    parts: Parts
    link: Link
    run_engine: RunEngine
    eval_engine: EvalEngine
    firings: Firings
    models: Providers
    limiter: SharedLimits
    receivers: Webhooks
    dispatch: Dispatch
    answers: Answers
    messages: Messages
    notifications: Notifications
    counting: Counting
    scorer: Scorer
    anchors: Anchors | None
    chainer: Chainer | None
    signer: Signer | None
    keeper: Keeper
    artifacts: Artifacts
    embedder: Embedder


@asynccontextmanager
async def process(*, eager: bool, database: DatabaseSettings | None = None) -> AsyncIterator[Process]:
    """Read the settings, put the parts together, and give everything back at the end.

    Neither PostgreSQL nor Temporal need to be there yet. Raises BadSetting, SkillMisdeclared, SigningKeyMissing or
    LedgerKeyMissing.
    """
    app, runs = AppSettings.read(), RunSettings.read()
    database = database or DatabaseSettings.read()
    temporal = TemporalSettings.read()
    for variable, value in (("DATABASE_URL", database.url.get_secret_value()), ("TEMPORAL_ADDRESS", temporal.address)):
        if not value:
            raise BadSetting(f"{variable} is not set", then="Start the platform with 'agentos up', or set it.")
    logs = LogSettings.read()
    meter = Meter()
    privately = PrivacySettings.read()
    privacy = Privacy(privately, recognizer_of(privately.recognizer), meter)
    clean = cleaner(privacy)
    configure_logs(logs, app.service, clean)
    modules = [*BUILT_IN, *skill_modules(app)]
    if str(Path.cwd()) not in sys.path:  # a project's own modules of skills lie where it is started
        sys.path.insert(0, str(Path.cwd()))
    registry = Registry(lambda operation: meter.count(REGISTRY_OPERATIONS, operation=operation)).load(modules)
    load_behaviours([SAMPLES, *skill_modules(app)])
    traces = opened(TraceSettings.read(), app.service, clean)
    models = Providers(ClaudeSettings.read(), OpenAISettings.read(), environment_secret, traces)
    webhooks = WebhookSettings.read()
    key = SigningSettings.read().key
    signer = Signer.load(key) if key else None
    meter.set(SKILLS_LOADED, len(registry.every()))
    doors = Doors(Database(database))
    read_only = RegistrySettings.read().read_only
    keeper = Keeper(doors.database, registry, service=app.service, read_only=read_only)
    identity = f"{app.service}@{socket.gethostname()}:{os.getpid()}"
    link = Link(temporal, identity=identity)
    engine = Engine(link, temporal.task_queue, eager=eager)
    run_engine = RunEngine(doors, engine, meter)
    eval_engine = EvalEngine(link, temporal.task_queue)
    routing = RouterSettings.read()
    limiter, board = SharedLimits(doors.database, routing), Board(doors.database, identity)
    parts = Parts(
        doors,
        registry,
        models,
        runs,
        meter,
        environment_secret,
        roots(runs),
        webhooks.hosts,
        logs.skill_params,
        {},
        privacy=privacy,
        traces=traces,
        routing=routing,
        limiter=limiter,
        board=board,
        egress=HttpSettings.read().hosts,
    )
    firings = Firings(parts)
    answers = Answers(doors, meter, privacy, registry)
    messages = Messages(doors)
    doors.hint = _each(run_engine.hint, eval_engine.hint, firings.hint, answers.hint, messages.hint)
    receivers = Webhooks(environment_secret, webhooks.hosts)
    dispatch = Dispatch(doors, receivers, meter, told_outside())
    channels = ways(SmtpSettings.read(), SlackSettings.read(), environment_secret)
    address = NotificationSettings.read().address
    hides = partial(hiding, privacy=privacy, schemas=registry)
    notifications = Notifications(doors, channels, meter, signer, address=address, hiding=hides)
    ledger_keys = doors.database.ledger_keys
    anchored = LedgerSettings.read().anchors
    anchors = Anchors(anchored, ledger_keys) if ledger_keys is not None and anchored else None
    chainer = None if ledger_keys is None else Chainer(doors.database, ledger_keys, anchors, meter)
    making = embeddings(EmbeddingSettings.read(), environment_secret, live=not routing.disable_live_adapters)
    embedder = Embedder(doors, making, privacy, meter)
    artifacts = Artifacts(doors, embedder, meter)
    # What a process starts with is never garbage: looking at it again cost runs a tenth of their throughput.
    gc.collect()
    gc.freeze()
    gc.collect()  # counts anew: a full look waits until a quarter as many have come as the last one saw
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        requests = RequestSettings.read()
        yield Process(
            app,
            runs,
            requests,
            temporal,
            parts,
            link,
            run_engine,
            eval_engine,
            firings,
            models,
            limiter,
            receivers,
            dispatch,
            answers,
            messages,
            notifications,
            Counting(doors),
            Scorer(doors),
            anchors,
            chainer,
            signer,
            keeper,
            artifacts,
            embedder,
        )
    finally:
        await parts.router.watch.close()
        await limiter.close()
        await board.close()
        await models.close()
        await making.close()
        await asyncio.to_thread(traces.close)
        await doors.database.close()


def _each(*hints: Hint) -> Hint:
    async def hint(organization: OrgId, facts: Sequence[Fact]) -> None:
        for one in hints:
            await one(organization, facts)

    return hint


def consumers(held: Process) -> list[Consumer]:
    """Every reader of facts but the chainer, which reads them all."""
    readers = (
        held.run_engine,
        held.eval_engine,
        held.firings,
        held.answers,
        held.messages,
        held.dispatch,
        held.notifications,
        held.scorer,
        held.counting,
        held.artifacts,
        Shadows(held.parts),
    )
    return [one.consumer() for one in readers]


async def worker(held: Process, *, inline_only: bool) -> Worker:
    """A Temporal worker over a process's parts. ``inline_only``: it executes no segment under heartbeats.

    Raises EngineUnavailable.
    """
    return Worker(
        await held.link.client(),
        task_queue=held.temporal.task_queue,
        workflows=[AgentRun, EvalFlow],
        activities=[*activities(held.parts), *eval_activities(held.parts, EvalSettings.read())],
        workflow_runner=UnsandboxedWorkflowRunner(),  # its workflows do nothing that replay could not repeat
        no_remote_activities=inline_only,
        max_concurrent_activities=None if inline_only else held.runs.concurrency,
        max_concurrent_local_activities=held.runs.concurrency,
        max_cached_workflows=held.runs.cached_workflows,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        max_heartbeat_throttle_interval=HEARTBEAT_TIMEOUT / 4,
        default_heartbeat_throttle_interval=HEARTBEAT_TIMEOUT / 4,
        graceful_shutdown_timeout=HEARTBEAT_TIMEOUT,
    )
