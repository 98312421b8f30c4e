"""From a function with type hints to a skill: its schemas, its contract and the digest that versions pin."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, create_model
from pydantic.errors import PydanticUserError

from agentos.control.policy.model import EffectClass
from agentos.kernel.canonical import digest
from agentos.kernel.errors import AgentOSError
from agentos.kernel.units import duration
from agentos.runtime.skills import versions
from agentos.runtime.skills.model import (
    Cost,
    Lookup,
    Retry,
    Reversibility,
    Skill,
    SkillContext,
    SkillMisdeclared,
)
from agentos.runtime.skills.schemas import has_path
from agentos.runtime.skills.threads import in_thread

F = TypeVar("F", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every vendor of models takes as the name of a tool


@dataclass(frozen=True, slots=True)
class Declared:
    """A function with what was said of it."""

    function: Callable[..., Any]
    name: str
    version: str
    effect: EffectClass
    reversibility: Reversibility
    idempotent: bool
    timeout: str
    retry: Retry
    lookup: Callable[..., Awaitable[Lookup]] | None
    stable: tuple[str, ...] = ()
    cost: Cost | None = None
    failures: tuple[type[AgentOSError], ...] | None = None


declared_in: dict[str, list[Declared]] = {}  # by module, filled as modules are imported
# How the arguments and the result of each skill are checked, by its digest.
inputs: Final[dict[str, type[BaseModel]]] = {}
outputs: Final[dict[str, TypeAdapter[Any]]] = {}


def skill(
    *,
    version: str,
    effect: str,
    name: str | None = None,
    reversibility: str = "reversible",
    idempotent: bool = False,
    timeout: str = "30s",
    retry: Retry | None = None,
    lookup: Callable[..., Awaitable[Lookup]] | None = None,
    stable: Sequence[str] = (),
    cost: Cost | None = None,
    failures: Sequence[type[AgentOSError]] | None = None,
) -> Callable[[F], F]:
    """Declare a function as a skill; the function stays an ordinary function.

    ``effect`` is S0..S4. ``idempotent`` promises that the receiver honours ``context.key``, or that twice is once.
    ``lookup(context, arguments)`` asks the receiver about a call whose end is unknown. Each version lives in a module
    of its own, because the digest that a version pins covers the module's source.

    What consumers may rely on besides the schemas: ``stable`` names fields of the output that later versions keep, as
    paths (``total``, ``items[].id``); ``cost`` is what a call costs; ``failures`` are the errors that it ends with.
    """

    def declare(function: F) -> F:
        declared_in.setdefault(function.__module__, []).append(
            Declared(
                function=function,
                name=name or function.__name__,
                version=version,
                effect=EffectClass[effect],
                reversibility=Reversibility(reversibility),
                idempotent=idempotent,
                timeout=timeout,
                retry=retry or Retry(),
                lookup=lookup,
                stable=tuple(stable),
                cost=cost,
                failures=None if failures is None else tuple(failures),
            )
        )
        return function

    return declare


@lru_cache(maxsize=256)
def build(declared: Declared) -> Skill:
    """The skill that was declared, built once in a process.

    Raises SkillMisdeclared (Invalid) with its place and what is wrong.
    """
    function, place = declared.function, f"{declared.function.__module__}.{declared.function.__qualname__}"
    if not _NAME.fullmatch(declared.name):
        raise SkillMisdeclared(f"'{declared.name[:80]}' is no name for a skill: letters, digits, _ and -", where=place)
    if not versions.declarable(declared.version):
        raise SkillMisdeclared(
            f"'{declared.version[:80]}' is no version: letters, digits and . _ + -, and not 'latest'", where=place
        )
    taken, timeout = _taken(declared, place), duration(declared.timeout)
    if declared.lookup is not None and not inspect.iscoroutinefunction(declared.lookup):
        raise SkillMisdeclared("lookup must be a coroutine function", where=place)
    described = inspect.getdoc(function) or ""
    promised = _promised(declared, taken.output_schema, place)
    pinned = digest(
        promised
        | {
            "name": declared.name,
            "version": declared.version,
            "effect": declared.effect.name,
            "reversibility": declared.reversibility,
            "idempotent": declared.idempotent,
            "timeout": declared.timeout,
            "retry": [declared.retry.attempts, declared.retry.first.total_seconds(), declared.retry.factor],
            "input": taken.input_schema,
            "output": taken.output_schema,
            "source": _source(function),
        }
    )
    inputs[pinned], outputs[pinned] = taken.inputs, taken.output

    async def call(context: SkillContext, arguments: dict[str, Any]) -> Any:
        checked = taken.inputs.model_validate(arguments)
        values = {name: getattr(checked, name) for name in taken.names}
        first: Sequence[Any] = (context,) if taken.wants_context else ()
        if inspect.iscoroutinefunction(function):
            return await function(*first, **values)
        return await in_thread(lambda: function(*first, **values))

    return Skill(
        name=declared.name,
        version=declared.version,
        effect=declared.effect,
        description=described,
        input_schema=taken.input_schema,
        output_schema=taken.output_schema,
        reversibility=declared.reversibility,
        idempotent=declared.idempotent,
        timeout=timeout,
        retry=declared.retry,
        digest=pinned,
        call=call,
        lookup=declared.lookup,
        stable=declared.stable,
        cost=declared.cost,
        failures=promised.get("failures"),
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a function takes and gives, as its hints say."""

    names: tuple[str, ...]
    wants_context: bool
    inputs: type[BaseModel]
    output: TypeAdapter[Any]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]


def _taken(declared: Declared, place: str) -> _Taken:
    try:
        hints = get_type_hints(declared.function, include_extras=True)
        parameters = list(inspect.signature(declared.function).parameters.values())
        wants_context = bool(parameters) and hints.get(parameters[0].name) is SkillContext
        fields: dict[str, Any] = {}
        for parameter in parameters[1:] if wants_context else parameters:
            if parameter.name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise SkillMisdeclared(f"parameter '{parameter.name}' needs a type hint of its own", where=place)
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        if "return" not in hints:
            raise SkillMisdeclared("the result needs a type hint", where=place)
        inputs = create_model(declared.name, __config__=ConfigDict(extra="forbid"), **fields)
        output: TypeAdapter[Any] = TypeAdapter(hints["return"])
        return _Taken(tuple(fields), wants_context, inputs, output, inputs.model_json_schema(), output.json_schema())
    except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError) as error:
        raise SkillMisdeclared(f"its types have no JSON schema: {error}", where=place) from error


def _promised(declared: Declared, output_schema: dict[str, Any], place: str) -> dict[str, Any]:
    """What a skill promises besides its schemas; only what it does, as skills from before have none in their digest."""
    promised: dict[str, Any] = {}
    for path in declared.stable:
        if not has_path(output_schema, path):
            raise SkillMisdeclared(f"the output has no field '{path[:200]}' that could be stable", where=place)
    if declared.stable:
        promised["stable"] = declared.stable
    if declared.cost is not None:
        cost = declared.cost
        if min(cost.per_call, cost.per_unit) < 0 or bool(cost.per_unit) != bool(cost.unit):
            raise SkillMisdeclared("a cost is never negative, and one per unit names the unit", where=place)
        promised["cost"] = asdict(cost)
    if declared.failures is not None:
        for one in declared.failures:
            if not (isinstance(one, type) and issubclass(one, AgentOSError)):
                raise SkillMisdeclared(f"{str(one)[:80]} is no class of errors of ours", where=place)
        promised["failures"] = tuple(sorted({one.code for one in declared.failures}))
    return promised


def _source(function: Callable[..., Any]) -> str:
    """What pins a skill's behaviour: its distribution's version when installed, else its module's text."""
    file = Path(inspect.getsourcefile(function) or "")
    top = function.__module__.partition(".")[0]
    # Our own skills are pinned by their text also when installed: a platform's upgrade must not strand parked runs.
    if "site-packages" in file.parts and top != "agentos":
        names = sorted(set(importlib.metadata.packages_distributions().get(top, ())))
        return " ".join(f"{name}=={importlib.metadata.version(name)}" for name in names)
    return file.read_text()
