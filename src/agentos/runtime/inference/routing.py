"""Which models may answer a step, in which order, and why: a version's model policy read into a plan.

    model:
      provider: claude            # the version's own model; what stands here is said of it
      name: claude-…
      mode: manual                # own model, then fallback | rules: the first that matches | cost: cheapest first
      fallback: [{provider: …, name: …}, …]
      routing:
        rules: [{when: {category: …, tools: true}, use: {…}, fallback: […], local_only: true}, …]
        local_only: true          # never leave to a model whose ``local`` is False
        costlier: never           # of the others: never | allowed | dollars that a call of one may cost at most
        on_blocked: end           # end | fallback: what becomes of a question that a model declines
        deadline: 90s             # for one step, whatever is tried in it
        task: …                   # a label for rules, where a run's input has none
        stand_in: {script: […]}   # what the stub says when a switch puts it in the place of the version's models

A policy without ``mode``, ``fallback`` and ``routing`` has one candidate, and its plan costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final

from agentos.kernel.errors import Invalid
from agentos.kernel.units import duration, micros

MOST_FALLBACKS: Final = 8  # each may cost a call its timeout before its breaker opens
MOST_RULES: Final = 32  # read for every step of a run
MOST_LABEL: Final = 100  # characters of a label of a task

STUB: Final = "stub"
OWN: Final = frozenset({"mode", "fallback", "routing", "context"})  # words of a policy that are no vendor's
ROUTING: Final = frozenset({"rules", "local_only", "costlier", "on_blocked", "deadline", "task", "stand_in"})
RULE: Final = frozenset({"when", "use", "fallback", "local_only"})
WHEN: Final = frozenset({"agent", "category", "task", "tools", "private", "longer_than"})


class RoutingInvalid(Invalid):
    """A model policy's routing is not of its form; ``where`` names the place below ``spec.model``."""

    code = "routing_invalid"


class Mode(StrEnum):
    """How the models of a policy are put in order."""

    MANUAL = "manual"
    RULES = "rules"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer. ``policy`` is what its adapter reads; ``why`` says why it stands where it stands."""

    provider: str
    name: str
    policy: Mapping[str, Any]
    why: str
    context: int | None = None  # tokens that it reads, as its policy says
    stands_in: bool = False  # a stub in the place of the version's own model, by a switch
    place: str = ""  # where it is written, below ``spec.model``

    @property
    def key(self) -> tuple[str, str]:
        """What names the model."""
        return self.provider, self.name

    def same(self, other: Candidate) -> bool:
        """Whether it is the same model."""
        return self.key == other.key

    def written(self) -> str:
        """``provider/name``."""
        return f"{self.provider}/{self.name}" if self.name else self.provider


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy: when it matches, and what it says then."""

    when: Mapping[str, Any]
    use: Candidate | None
    fallback: tuple[Candidate, ...] | None
    local_only: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A model policy as it was read."""

    own: Candidate
    fallback: tuple[Candidate, ...] = ()
    mode: Mode = Mode.MANUAL
    rules: tuple[Rule, ...] = ()
    local_only: bool = False
    costlier: int | None = 0  # millionths of a dollar for a call of a costlier model; 0: never, None: whatever it costs
    on_blocked: str = "end"
    deadline: timedelta | None = None
    task: str = ""
    stand_in: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False  # one model, and nothing is said of routing

    @property
    def every(self) -> tuple[Candidate, ...]:
        """Each model that the policy names, the version's own first."""
        more = [one for rule in self.rules for one in ((rule.use,) if rule.use else ()) + (rule.fallback or ())]
        return (self.own, *self.fallback, *more)

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """Each model that the policy may put first, which is not there for another's failure."""
        if self.mode is Mode.COST:
            return self.every
        return (self.own, *(rule.use for rule in self.rules if rule.use is not None))

    @property
    def compares(self) -> bool:
        """Whether its plan depends on prices."""
        return self.mode is Mode.COST or (self.costlier is not None and len(self.every) > 1)


def read(policy: Mapping[str, Any]) -> Route:
    """The route that a model policy writes. Raises RoutingInvalid (Invalid) with the place and what to do."""
    if OWN.isdisjoint(policy):
        return Route(_own(policy), plain=True)
    own = _own({key: value for key, value in policy.items() if key not in OWN})
    own = replace(own, context=_context(policy.get("context"), "context"))
    mode = _one_of(policy.get("mode", "manual"), [one.value for one in Mode], "mode")
    said = _mapping(policy.get("routing", {}), ROUTING, "routing")
    rules = tuple(
        _rule(one, own, f"routing.rules[{number}]")
        for number, one in enumerate(_list(said.get("rules", []), MOST_RULES, "routing.rules"))
    )
    if (mode == Mode.RULES) != bool(rules):
        raise RoutingInvalid(
            "routing has rules where the mode is rules, and only there",
            where="mode" if rules else "routing.rules",
            then="Write mode: rules and routing.rules, or neither.",
        )
    task = said.get("task", "")
    if not isinstance(task, str) or len(task) > MOST_LABEL:
        raise RoutingInvalid(f"a task is a text of at most {MOST_LABEL} characters", where="routing.task")
    stand_in = said.get("stand_in", {})
    if not isinstance(stand_in, dict) or not set(stand_in) <= {"script", "behaviour"}:
        raise RoutingInvalid(
            "stand_in is what the stub would say",
            where="routing.stand_in",
            then="Write script: […] or behaviour: NAME.",
        )
    return Route(
        own=own,
        fallback=_candidates(policy.get("fallback", []), own, "fallback"),
        mode=Mode(mode),
        rules=rules,
        local_only=_flag(said.get("local_only", False), "routing.local_only"),
        costlier=_costlier(said.get("costlier", "never")),
        on_blocked=_one_of(said.get("on_blocked", "end"), ["end", "fallback"], "routing.on_blocked"),
        deadline=_deadline(said.get("deadline")),
        task=task,
        stand_in=stand_in,
    )


def check(policy: Mapping[str, Any], each: Callable[[dict[str, Any]], None]) -> bool:
    """Whether a model policy has routing, and then ``each`` was told each model of it by itself.

    Raises RoutingInvalid, or what ``each`` raises (Invalid), with the place below ``spec.model``.
    """
    _close(policy)
    if OWN.isdisjoint(policy):
        return False
    route = read(policy)
    wanted = [(one.place, dict(one.policy)) for one in route.every]
    if route.stand_in:
        wanted.append(("routing.stand_in", {"provider": STUB, **route.stand_in}))
    for place, plain in wanted:
        try:
            each(plain)
        except Invalid as error:
            error.where = ".".join(part for part in (place, error.where.removeprefix("model.")) if part)
            raise
    return True


def _own(policy: Mapping[str, Any]) -> Candidate:
    name = policy.get("name")
    return Candidate(
        str(policy.get("provider", "unknown")), name if isinstance(name, str) else "", policy, "the version's own model"
    )


def _close(policy: Mapping[str, Any]) -> None:
    """Refuse words that were surely meant to be ours."""
    for key in policy:
        if key in ROUTING:
            raise RoutingInvalid(f"'{key}' is said of routing", where=key, then=f"Write it below routing: {key}: …")
        if key not in OWN and (meant := get_close_matches(str(key), OWN, 1, 0.8)):
            raise RoutingInvalid(f"a model policy has no '{str(key)[:40]}'", where=str(key), then=f"Write {meant[0]}.")


def _candidates(said: Any, own: Candidate, where: str) -> tuple[Candidate, ...]:
    return tuple(
        _candidate(one, own, f"{where}[{number}]", f"fallback {number + 1}")
        for number, one in enumerate(_list(said, MOST_FALLBACKS, where))
    )


def _candidate(said: Any, own: Candidate, where: str, why: str) -> Candidate:
    """Another model than the version's own; what is not said of the length of its answers is as of the own one's."""
    if not isinstance(said, dict) or not isinstance(said.get("provider"), str):
        raise RoutingInvalid(
            "a model is named by its provider", where=where, then="Write {provider: …, name: …}, as for the own model."
        )
    if strange := sorted((OWN - {"context"}) & set(said)):
        raise RoutingInvalid(
            f"'{strange[0]}' is said of the whole policy, not of one model of it", where=f"{where}.{strange[0]}"
        )
    policy = {key: value for key, value in said.items() if key != "context"}
    if "max_tokens" not in policy and "max_tokens" in own.policy:
        policy["max_tokens"] = own.policy["max_tokens"]
    found = _own(policy)
    return replace(found, why=why, context=_context(said.get("context"), f"{where}.context"), place=where)


def _context(said: Any, where: str) -> int | None:
    if said is not None and (isinstance(said, bool) or not isinstance(said, int) or said < 1):
        raise RoutingInvalid("context is how many tokens the model reads", where=where)
    return said


def _rule(said: Any, own: Candidate, where: str) -> Rule:
    rule = _mapping(said, RULE, where)
    when = _mapping(rule.get("when", {}), WHEN, f"{where}.when")
    for name, wanted in when.items():
        _check_condition(name, wanted, f"{where}.when.{name}")
    if not {"use", "fallback", "local_only"} & set(rule):
        raise RoutingInvalid("the rule says nothing", where=where, then="Add use, fallback or local_only.")
    use = rule.get("use")
    return Rule(
        when,
        None if use is None else _candidate(use, own, f"{where}.use", ""),
        None if "fallback" not in rule else _candidates(rule["fallback"], own, f"{where}.fallback"),
        _flag(rule.get("local_only", False), f"{where}.local_only"),
    )


def _check_condition(name: str, wanted: Any, where: str) -> None:
    if name == "longer_than":
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
            raise RoutingInvalid("longer_than is a number of tokens", where=where)
    elif name == "private":
        _flag(wanted, where)
    elif not (name == "tools" and isinstance(wanted, bool)):
        words = wanted if isinstance(wanted, list) else [wanted]
        if not words or not all(isinstance(one, str) and one for one in words):
            kinds = "true, false, a name or a list of names" if name == "tools" else "a text or a list of texts"
            raise RoutingInvalid(f"{name} is {kinds}", where=where)


def _mapping(said: Any, known: frozenset[str], where: str) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise RoutingInvalid(f"{where} is a mapping", where=where, then=f"It may hold: {', '.join(sorted(known))}.")
    if strange := sorted(map(str, set(said) - known)):
        raise RoutingInvalid(
            f"there is no '{strange[0][:40]}' in {where}",
            where=f"{where}.{strange[0][:40]}",
            then=f"It may hold: {', '.join(sorted(known))}.",
        )
    return said


def _list(said: Any, most: int, where: str) -> list[Any]:
    if not isinstance(said, list) or len(said) > most:
        raise RoutingInvalid(f"{where} is a list of at most {most}", where=where)
    return said


def _flag(said: Any, where: str) -> bool:
    if not isinstance(said, bool):
        raise RoutingInvalid(f"{where} is true or false", where=where)
    return said


def _one_of(said: Any, known: Sequence[str], where: str) -> str:
    if said not in known:
        raise RoutingInvalid(f"{where} is not '{str(said)[:40]}'", where=where, then=f"Use {', '.join(known)}.")
    return str(said)


def _costlier(said: Any) -> int | None:
    if said == "never":
        return 0
    if said == "allowed":
        return None
    try:
        if not isinstance(said, str):
            raise RoutingInvalid("the ceiling is no text")
        return micros(said)
    except Invalid as error:
        raise RoutingInvalid(
            f"costlier is never, allowed or dollars for a call: {error.what}",
            where="routing.costlier",
            then="Write dollars as a text, as '0.05'.",
        ) from None


def _deadline(said: Any) -> timedelta | None:
    if said is None:
        return None
    try:
        found = duration(str(said))
    except Invalid as error:
        raise RoutingInvalid(error.what, where="routing.deadline", then=error.then) from None
    if not timedelta(0) < found <= timedelta(hours=1):
        raise RoutingInvalid("a deadline is over 0 and at most 1h", where="routing.deadline")
    return found
