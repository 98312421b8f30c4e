"""Tell which models there are, how they do, and which of them would serve a step and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentos.control.agents import service as agents
from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import Ceiling, ModelUnpriced, Standing
from agentos.control.budgets.prices import tariff_of
from agentos.control.deployments import service as deployments
from agentos.control.stops import service as stops
from agentos.control.stops.model import Stop, Subject
from agentos.kernel.errors import NotFound, Unavailable
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import dollars
from agentos.runtime.inference import routing
from agentos.runtime.inference.breaker import State
from agentos.runtime.inference.limits import SharedLimits
from agentos.runtime.inference.plans import Circumstances, Costs
from agentos.runtime.inference.ports import Listed
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.routing import Candidate, Route
from agentos.runtime.inference.standings import Board, Seen

log = structlog.get_logger(__name__)

UNKNOWN: Final = "unknown"
RECENT: Final = timedelta(minutes=5)  # a breaker that nobody has looked at for longer says nothing of now
MOST_DEPLOYMENTS: Final = 200

_WORST: Final = (State.OPEN, State.HALF_OPEN, State.CLOSED)
_BREAKERS: Final = {State.OPEN: "breaker_open", State.HALF_OPEN: "breaker_half_open", State.CLOSED: "live"}


class NoVersionServes(NotFound):
    """The deployment serves no version, so it has no model policy."""

    code = "no_version_serves"


async def adapters(
    router: Router, listed: Sequence[Listed], board: Board | None, limits: SharedLimits | None, *, at: datetime
) -> dict[str, Any]:
    """Every provider: whether it is asked, how it did, and what of its limit is used. What nobody knows is unknown.

    It names no model, because models are what organizations chose.
    """
    seen, used = list[Seen](), None
    try:
        seen = [] if board is None else await board.every()
        used = None if limits is None else await limits.used()
    except Unavailable as away:
        log.info("standings_unknown", code=away.code)
    shown = [_adapter(one, router, [each for each in seen if each.provider == one.name], used, at) for one in listed]
    asked = [one for one in shown if one["state"] not in ("disabled", "not_configured")]
    return {
        "switches": {
            "FALLBACK_MODE": router.switches.fallback_only,
            "DISABLE_LIVE_ADAPTERS": router.switches.live_disabled,
            "FORCE_STUB_ADAPTER": router.switches.stub_forced,
            "API_TIMEOUT": router.settings.api_timeout,
        },
        "says": says(router),
        "adapters": asked,
        "not_asked": [one for one in shown if one not in asked],
    }


async def models(
    work: UnitOfWork, listed: Sequence[Listed], seen: Sequence[Seen], *, at: datetime
) -> list[dict[str, Any]]:
    """Every model that a serving version of the organization names: who names it, what it costs, how it does."""
    configured = {one.name: one for one in listed}
    standing, named = await _standing(work), dict[tuple[str, str], list[str]]()
    for deployment in (await deployments.list_deployments(work))[:MOST_DEPLOYMENTS]:
        if deployment.version is not None:
            version = await agents.get_version(work, deployment.agent_id, deployment.version)
            for candidate in routing.read(version.definition.model).every:
                named.setdefault(candidate.key, []).append(deployment.id)
    found = []
    for (provider, name), used_by in sorted(named.items()):
        one = configured.get(provider)
        found.append(
            {
                "provider": provider,
                "model": name,
                "configured": one is not None and one.configured,
                "local": one is not None and one.local,
                "price": await _price(standing, provider, name, at),
                **_latest([each for each in seen if (each.provider, each.model) == (provider, name)], at),
                "used_by": sorted(set(used_by)),
            }
        )
    return found


async def explain(
    work: UnitOfWork,
    router: Router,
    deployment_id: str,
    *,
    task: str,
    private: bool,
    tokens: int,
    at: datetime,
) -> dict[str, Any]:
    """Which models would be asked for a step of a deployment's agent, in which order, and why each other one not.

    Raises MalformedId (Invalid), DeploymentUnknown or NoVersionServes (NotFound).
    """
    deployment = await deployments.get(work, deployment_id)
    if deployment.version is None:
        raise NoVersionServes(
            "no version serves there yet, so nothing would be asked",
            where=deployment_id,
            then=f"Promote one: agentos deployments promote {deployment_id}.",
        )
    version = await agents.get_version(work, deployment.agent_id, deployment.version)
    route = routing.read(version.definition.model)
    definition = version.definition

    async def standing() -> Standing:
        return await _standing(work)

    here = Circumstances(
        agent=version.agent_id,
        category=definition.category,
        task=task or route.task,
        tools=tuple(one.name for one in definition.skills),
        private=private or definition.prompts is not None,
        tokens=lambda: tokens,
        prices=await prices_of(route, standing, at=at),
    )
    made = router.plan(route, here)
    subject = Subject(deployment.id, version.agent_id, version.definition.category)
    stopped = await stops.in_force(work, subject)
    models = [_explained(one, router, stopped.denies_provider(one.provider)) for one in made.candidates]
    return {
        "deployment": deployment_id,
        "agent": version.agent_id,
        "version": version.hash,
        "mode": route.mode.value,
        "would_ask": next((one["model"] for one in models if one["asked"]), None),
        "models": models,
        "left_out": [{"model": f"{one.provider}/{one.name}".rstrip("/"), "why": one.why} for one in made.skipped],
        "acts_at_most_at": "L1" if router.switches.replace_model_of(version.definition.model) else None,
    }


async def prices_of(
    route: Route, standing: Callable[[], Awaitable[Standing]], *, at: datetime
) -> dict[tuple[str, str], Costs]:
    """What is known of the cost of a route's models, where its plan depends on that.

    ``standing`` tells the organization's prices and is asked only then. Raises what it raises.
    """
    found: dict[tuple[str, str], Costs] = {}
    if not route.compares:
        return found
    prices = await standing()
    for key in {one.key for one in route.every}:
        try:
            found[key] = await tariff_of(prices, *key, at=at)
        except ModelUnpriced:
            continue
    return found


def says(router: Router) -> str:
    """What the switches of this process make of every model, in a few words."""
    switches = router.switches
    if switches.stub_forced:
        return "stub: every call is answered by the stub, and agents whose model it replaces act at L1"
    if switches.live_disabled:
        return "stub only: no live model is asked; runs that need one wait"
    return "fallback models only" if switches.fallback_only else "live"


def _adapter(
    one: Listed, router: Router, seen: Sequence[Seen], used: Mapping[str, tuple[int, int]] | None, at: datetime
) -> dict[str, Any]:
    latest = _latest(seen, at)
    # Nobody asked it lately: whether it answers is not known.
    state = _BREAKERS[State(latest["breaker"])] if latest["breaker"] != UNKNOWN else UNKNOWN
    if one.name == routing.STUB:
        state = "stub"
    elif router.switches.stub_forced or router.switches.live_disabled:
        state = "disabled"
    elif not one.configured:
        state = "not_configured"
    shown = {"name": one.name, "state": state, "local": one.local, **latest}
    requests, tokens = router.settings.limit_of(one.name)
    if requests or tokens:
        spent = (UNKNOWN, UNKNOWN) if used is None else used.get(one.name, (0, 0))
        shown["rate_limit"] = {
            "requests": {"limit": requests or None, "used": spent[0]},
            "tokens": {"limit": tokens or None, "used": spent[1]},
            "window_seconds": 60,
        }
    return shown


def _latest(seen: Sequence[Seen], at: datetime) -> dict[str, Any]:
    """The last word on a model or a provider, and the worst state of a breaker that was looked at of late."""
    if not seen:
        return {"last": UNKNOWN, "at": None, "breaker": UNKNOWN}
    last = max(seen, key=lambda each: each.at)
    recent = {each.state for each in seen if at - each.at <= RECENT}
    breaker = next((state.value for state in _WORST if state in recent), UNKNOWN)
    return {"last": last.outcome, "at": last.at.isoformat(), "breaker": breaker}


def _explained(one: Candidate, router: Router, denied: Stop | None) -> dict[str, Any]:
    away = None if denied is None else f"stop {denied.id} denies '{one.provider}'"
    missing = router.missing(one)
    return {
        "model": one.written(),
        "why": one.why,
        "asked": denied is None and missing is None,
        "but": away or missing,
        "stands_in": one.stands_in,
    }


async def _standing(work: UnitOfWork) -> Standing:
    prices = await budgets.list_prices(work)
    return Standing(prices={(one.provider, one.model): one for one in prices})


async def _price(standing: Standing, provider: str, model: str, at: datetime) -> dict[str, Any] | str:
    try:
        tariff = await tariff_of(standing, provider, model, at=at)
    except ModelUnpriced:
        return UNKNOWN
    if isinstance(tariff, Ceiling):
        return {"call_ceiling": dollars(tariff.amount)}
    return {"input": dollars(tariff.input.base), "output": dollars(tariff.output.base)}
