"""Which models and agents a client may name, and which of them a name stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from agentos.control.budgets import service as budgets
from agentos.control.budgets.model import ModelUnpriced, Standing, Tariff
from agentos.control.budgets.prices import tariff_of
from agentos.control.deployments import serving as deployments
from agentos.control.deployments.model import PRODUCTION
from agentos.kernel import ids
from agentos.kernel.database import DatabaseUnavailable
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.kernel.units import dollars
from agentos.runtime.gateway import asking, options
from agentos.runtime.gateway.model import AGENT, STUB, Asker, ModelUnclear, Said, Wanted, named
from agentos.runtime.inference import Message, routing
from agentos.runtime.inference.gate import Attempt
from agentos.runtime.inference.ports import Listed
from agentos.runtime.inference.routing import Route
from agentos.runtime.runs.ports import Parts

Providers = Callable[[], Sequence[Listed]]

UNKNOWN: Final = "unknown"
TEST_TOKENS: Final = 16  # of the answer to a test: enough to see that it talks
MOST_LISTED: Final = 200  # deployments whose agents are listed


async def route_of(
    parts: Parts, providers: Providers, organization: OrgId, wanted: Wanted, *, most_tokens: int, at: datetime
) -> Route:
    """The models that a request names, the first and its fallback, as a policy is read.

    A fallback may cost more than the first, since the client named it. Raises ModelUnclear or NotOffered (Invalid),
    DatabaseUnavailable.
    """
    standing = await parts.books.standing(parts.database, organization)
    known = providers()
    entries = []
    for name in (wanted.model, *wanted.fallback):
        provider, model = await _meant(known, standing, name, at)
        entries.append(options.entry(provider, model, wanted, wanted.max_tokens or most_tokens))
    own, *others = entries
    more: dict[str, Any] = {"fallback": others, "routing": {"costlier": "allowed"}} if others else {}
    return routing.read(own | more)


async def _meant(known: Sequence[Listed], standing: Standing, name: str, at: datetime) -> tuple[str, str]:
    """The provider and model of a name: ``PROVIDER/MODEL``, or a model that just one provider has a price of."""
    provider, _, model = name.partition("/")
    if provider == STUB:
        return STUB, model
    if model and any(_is(one, provider) for one in known):
        return provider, model
    live = [one.name for one in known if one.configured and one.name != STUB and "*" not in one.name]
    priced = [one for one in live if await _priced(standing, one, name, at)]
    if len(priced) == 1:
        return priced[0], name
    if not priced:
        raise ModelUnclear(
            f"no configured provider is known to have a model '{name[:100]}'",
            where="model",
            then=f"Write PROVIDER/MODEL with one of {', '.join(live) or 'no provider: none is configured'}, or stub; "
            "a model without a price gets one by 'agentos budgets price'.",
        )
    raise ModelUnclear(
        f"'{name[:100]}' may be a model of {' or '.join(priced)}",
        where="model",
        then=f"Write for example {priced[0]}/{name[:100]}.",
    )


def _is(one: Listed, provider: str) -> bool:
    return one.name == provider or (one.name.endswith("*") and provider.startswith(one.name[:-1]))


async def _priced(standing: Standing, provider: str, model: str, at: datetime) -> bool:
    try:
        await tariff_of(standing, provider, model, at=at)
    except ModelUnpriced:
        return False
    return True


async def ask_a_word(
    parts: Parts, asker: Asker, provider: str, model: str, text: str, *, at: datetime
) -> dict[str, Any]:
    """Ask a model a word, as any direct question is asked: under stops, switches, budgets, and with its fact.

    What came of it, also where that is an error. Raises DatabaseUnavailable.
    """
    attempts: list[Attempt] = []
    told: dict[str, Any] = {"provider": provider, "model": model, "answered": False}
    route = routing.read({"provider": provider, "name": model, "max_tokens": TEST_TOKENS})
    wanted = Wanted(named(provider, model), (Message("user", text),), max_tokens=TEST_TOKENS)
    within = parts.router.timeout.total_seconds()
    try:
        said = await asking.ask(
            parts,
            asker,
            ids.new("ask"),
            wanted,
            route,
            within=within,
            hear=None,
            began=lambda _model: None,
            attempts=attempts,
        )
    except DatabaseUnavailable:
        raise
    except AgentOSError as error:
        told |= {"code": error.code, "detail": error.what}
    else:
        told |= {
            "answered": True,
            "by": {"provider": said.provider, "model": said.model},
            "text": said.text[:500],
            "tokens": {"input": said.usage.input, "output": said.usage.output},
            "cost": await _cost(parts, asker, said, model, at),
        }
    return told | {"attempts": [one.record() for one in attempts]}


async def _cost(parts: Parts, asker: Asker, said: Said, model: str, at: datetime) -> str:
    standing = await parts.books.standing(parts.database, OrgId(asker.organization))
    try:
        tariff, used = await tariff_of(standing, said.provider, model, at=at), said.usage.tokens()
    except ModelUnpriced:
        return UNKNOWN
    return dollars(tariff.cost(used)) if isinstance(tariff, Tariff) and used is not None else UNKNOWN


async def nameable(work: UnitOfWork, *, models: bool, agents: bool) -> list[tuple[str, str]]:
    """Names that a client can be offered, each with whose it is: agents that serve, and the models that they and the
    organization's prices name. Any other model of a configured provider can be asked for, too."""
    found: dict[str, str] = {}
    serving = await deployments.of_all(work, most=MOST_LISTED)
    if agents:
        for one in serving:
            if one.deployment.environment == PRODUCTION:
                found.setdefault(f"{AGENT}{one.deployment.agent_id}", one.deployment.agent_id)
    if models:
        for price in await budgets.list_prices(work):
            if price.model != "*":
                found.setdefault(named(price.provider, price.model), price.provider)
        for one in serving:
            for candidate in routing.read(one.version.definition.model).every:
                if candidate.provider != STUB and candidate.name:
                    found.setdefault(named(candidate.provider, candidate.name), candidate.provider)
        found.setdefault(STUB, STUB)
    return sorted(found.items())
