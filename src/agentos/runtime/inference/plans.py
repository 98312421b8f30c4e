"""A route in its circumstances: the candidates for one step in order, and why each other model is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Protocol

from agentos.kernel.units import dollars
from agentos.runtime.inference.routing import STUB, Candidate, Mode, Route, read

FALLBACK_ONLY: Final = "FALLBACK_MODE: only fallback models are asked"
LIVE_DISABLED: Final = "DISABLE_LIVE_ADAPTERS: no live model is asked"
STUB_FORCED: Final = "FORCE_STUB_ADAPTER: every call is answered by the stub"


class Costs(Protocol):
    """What calls of a model cost: ``control/budgets`` has it of every model that has a price."""

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call of at most so many tokens can cost, in millionths of a dollar."""
        ...


@dataclass(frozen=True, slots=True)
class Skipped:
    """A model of the policy that is not asked, and why not."""

    provider: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The models that are asked for one step, in this order, until one answers."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...] = ()
    blocked_falls_back: bool = False
    deadline: timedelta | None = None
    schema: dict[str, Any] | None = None  # that a stub's stand-in answer has to fit


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What routing may depend on. ``tokens`` tells about how long the question is, ``prices`` what is known of cost."""

    agent: str = ""
    category: str = ""
    task: str = ""
    tools: tuple[str, ...] = ()
    private: bool = False
    tokens: Callable[[], int] = lambda: 0
    prices: Mapping[tuple[str, str], Costs] = field(default_factory=dict)
    schema: dict[str, Any] | None = None


ANYWHERE: Final = Circumstances()


@dataclass(frozen=True, slots=True)
class Switches:
    """What the settings of the process say of every plan."""

    fallback_only: bool = False  # FALLBACK_MODE
    live_disabled: bool = False  # DISABLE_LIVE_ADAPTERS
    stub_forced: bool = False  # FORCE_STUB_ADAPTER

    def replace_model_of(self, policy: Mapping[str, Any]) -> bool:
        """Whether a switch puts a stub in the place of a model that this policy would choose, or could."""
        if not (self.stub_forced or self.live_disabled):
            return False
        return policy.get("provider") != STUB or any(one.provider != STUB for one in read(policy).chosen)


NONE: Final = Switches()


def plan(
    route: Route,
    here: Circumstances = ANYWHERE,
    switches: Switches = NONE,
    *,
    local: Callable[[Candidate], bool] = lambda _one: False,
) -> Plan:
    """The models that may answer, in order, and why each other one may not.

    ``local`` tells whether a model stays on the operator's machines.
    """
    done = Plan((route.own,), (), route.on_blocked == "fallback", route.deadline, here.schema)
    if not (route.fallback or route.rules or route.local_only) and (switches == NONE or route.own.provider == STUB):
        return done
    order, local_only = _ordered(route, here)
    first = order[0]
    if switches.stub_forced and (first.provider != STUB or (route.mode is Mode.COST and _names_live(order))):
        skipped = [Skipped(one.provider, one.name, STUB_FORCED) for one in route.every]
        return replace(done, candidates=(_stand_in(route, first),), skipped=tuple(skipped))
    skipped = []

    def keep(one: Candidate, why: str | None) -> bool:
        if why is not None:
            skipped.append(Skipped(one.provider, one.name, why))
        return why is None

    if route.mode is Mode.COST:
        order = _by_cost(order, here, keep)
    if local_only:
        order = [one for one in order if keep(one, None if local(one) else "its models are not local")]
    if route.costlier is not None:
        order = [one for one in order if keep(one, _too_dear(one, first, here, route.costlier))]
    if switches.fallback_only and any(not one.same(first) for one in order):
        order = [one for one in order if keep(one, FALLBACK_ONLY if one.same(first) else None)]
    if switches.live_disabled or switches.stub_forced:
        why = STUB_FORCED if switches.stub_forced else LIVE_DISABLED
        order = [one for one in order if keep(one, None if one.provider == STUB else why)]
        if first.provider != STUB:
            order = [replace(one, stands_in=True) for one in order]
    return replace(done, candidates=tuple(order), skipped=tuple(skipped))


def reads_more(candidate: Candidate, than: Candidate) -> str | None:
    """Why a model is not asked what was too long for another; None when it is known to read more."""
    if candidate.context is None:
        return "how much it reads is not said (context)"
    if than.context is not None and candidate.context <= than.context:
        return f"it reads no more than {than.written()}, for which this was too long"
    return None


def _ordered(route: Route, here: Circumstances) -> tuple[list[Candidate], bool]:
    """Each candidate before anything is left out, and whether only local models may be asked."""
    if route.mode is not Mode.RULES:
        return [route.own, *route.fallback], route.local_only
    for number, rule in enumerate(route.rules, 1):
        if all(_holds(name, wanted, here) for name, wanted in rule.when.items()):
            chain = route.fallback if rule.fallback is None else rule.fallback
            because = f"rule {number} matches"
            first = replace(rule.use or route.own, why=because)
            return [first, *(replace(one, why=f"{one.why} of rule {number}") for one in chain)], (
                rule.local_only or route.local_only
            )
    return [replace(route.own, why="no rule matches"), *route.fallback], route.local_only


def _by_cost(
    order: Sequence[Candidate], here: Circumstances, keep: Callable[[Candidate, str | None], bool]
) -> list[Candidate]:
    priced = []
    for place, one in enumerate(order):
        cost = _cost(one, here)
        if keep(one, "nobody knows what it costs" if cost is None else None):
            assert cost is not None
            priced.append((cost, place, replace(one, why=f"costs at most {dollars(cost)} dollars for this question")))
    return [one for _cost, _place, one in sorted(priced, key=lambda entry: entry[:2])]


def _too_dear(one: Candidate, first: Candidate, here: Circumstances, costlier: int) -> str | None:
    """Why a candidate costs more than the policy allows; None when it does not. The first is what policy chose."""
    if one.same(first):
        return None
    cost, chosen = _cost(one, here), _cost(first, here)
    if cost is None:
        return "nobody knows what it costs, and the policy allows no costlier model"
    if chosen is not None and cost <= chosen:
        return None
    if costlier and cost <= costlier:
        return None
    than = f"more than {first.written()}" if chosen is not None else f"{dollars(cost)} dollars at most"
    allowed = f"more than {dollars(costlier)} dollars" if costlier else "no costlier model"
    return f"it costs {than}, and the policy allows {allowed}"


def _cost(one: Candidate, here: Circumstances) -> int | None:
    price = here.prices.get((one.provider, one.name))
    return None if price is None else price.most(here.tokens(), int(one.policy.get("max_tokens", 4096)))


def _names_live(order: Sequence[Candidate]) -> bool:
    return any(one.provider != STUB for one in order)


def _stand_in(route: Route, instead_of: Candidate) -> Candidate:
    """The stub in the place of a model. Where the version's own is a stub, that is what stands in."""
    own = route.own.policy if route.own.provider == STUB else {}
    policy = {"max_tokens": instead_of.policy.get("max_tokens", 4096), **own, "provider": STUB, **route.stand_in}
    why = f"FORCE_STUB_ADAPTER: the stub stands in for {instead_of.written()}"
    return Candidate(STUB, "", policy, why, stands_in=True)


def _holds(name: str, wanted: Any, here: Circumstances) -> bool:
    if name == "longer_than":
        return here.tokens() > int(wanted)
    if name == "private":
        return here.private is wanted
    if name == "tools" and isinstance(wanted, bool):
        return bool(here.tools) is wanted
    words = [wanted] if isinstance(wanted, str) else list(wanted)
    if name == "tools":
        return not set(words).isdisjoint(here.tools)
    return getattr(here, name) in words
