"""Declare skills, load them, and call them within their own contract.

A declaration is a function with type hints. The hints become the JSON schemas; a call is checked against them on the
way in and on the way out, so what is journaled always fits what the version pinned.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from agentos.control.policy.model import EffectClass
from agentos.kernel.canonical import canonical, digest
from agentos.kernel.errors import AgentOSError
from agentos.kernel.units import duration
from agentos.runtime.skills import versions
from agentos.runtime.skills.model import (
    ArgumentsRefused,
    Cost,
    Lookup,
    Retry,
    Reversibility,
    Skill,
    SkillBrokeSchema,
    SkillChanged,
    SkillContext,
    SkillMisdeclared,
    SkillRaised,
    SkillsBusy,
    SkillTimedOut,
    SkillUnknown,
    SkillWithheld,
)
from agentos.runtime.skills.schemas import has_path

ENTRY_POINTS: Final = "agentos.skills"  # group under which an installed package names its modules of skills

# A synchronous skill that never ends keeps its thread until the process ends, so their number is bounded: 64 stuck
# threads cost ~1 MB of resident memory here, and a healthy worker rarely has more than a handful under way.
MAX_SYNC_CALLS: Final = 64
_sync_calls = threading.BoundedSemaphore(MAX_SYNC_CALLS)

F = TypeVar("F", bound=Callable[..., Any])


_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every vendor of models takes as the name of a tool


@dataclass(frozen=True, slots=True)
class _Declared:
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


_declared: dict[str, list[_Declared]] = {}  # by module, filled as modules are imported


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
        _declared.setdefault(function.__module__, []).append(
            _Declared(
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


class Registry:
    """The skills of this process by name and version. Filled once at start, then only read.

    A skill can be withheld: it stays loaded and is not served. ``count`` is told of each operation.
    """

    def __init__(self, count: Callable[[str], None] = lambda _operation: None) -> None:
        self._skills: dict[tuple[str, str], Skill] = {}
        self._withheld: dict[tuple[str, str], str] = {}
        self.count = count

    def load(self, modules: Iterable[str], *, entry_points: bool = True) -> Registry:
        """Import the modules (and those that installed packages name) and register every skill they declare.

        Raises SkillMisdeclared (Invalid) with the module and what is wrong.
        """
        named = list(modules)
        if entry_points:
            named += [point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
        for module in named:
            try:
                importlib.import_module(module)
            except AgentOSError:
                raise
            except (Exception, SystemExit) as error:
                raise SkillMisdeclared(
                    f"module '{module}' cannot be imported: {type(error).__name__}: {error}",
                    then="Mend the module, or take it out of AGENTOS_SKILLS.",
                ) from error
            for declared in _declared.get(module, ()):
                self.add(_build(declared))
        return self

    def add(self, one: Skill) -> None:
        """Register a skill. The same name and version twice is refused unless they are the same skill."""
        known = self._skills.setdefault((one.name, one.version), one)
        if known.digest != one.digest:
            raise SkillMisdeclared(
                f"skill '{one.name}' version '{one.version}' is declared twice", then="Give one of them a new version."
            )

    def every(self) -> list[Skill]:
        """All loaded skills, by name and version."""
        return [self._skills[key] for key in sorted(self._skills)]

    @property
    def digests(self) -> Mapping[tuple[str, str], str]:
        """The digests of all loaded skills, by name and version."""
        return {key: one.digest for key, one in self._skills.items()}

    def withhold(self, reasons: Mapping[tuple[str, str], str]) -> None:
        """Serve just these skills no further, each for its reason, until told otherwise."""
        self._withheld = dict(reasons)

    @property
    def withheld(self) -> Mapping[tuple[str, str], str]:
        """The skills that are loaded and not served, and why."""
        return self._withheld

    def get(self, name: str, version: str) -> Skill:
        """The skill of that name and version.

        Raises SkillUnknown (NotFound) naming what there is, SkillWithheld (Conflict).
        """
        found = self._skills.get((name, version))
        if found is None:
            self.count("missing")
            raise self._unknown(name, version)
        why = self._withheld.get((name, version))
        if why is not None:
            self.count("withheld")
            raise SkillWithheld(
                f"skill '{name}' version '{version}' is not served here: {why}",
                then="Give what changed a new version in a module of its own, or load what was registered.",
            )
        self.count("found")
        return found

    def resolve(self, name: str, wanted: str) -> Skill:
        """The skill of that name and the version that is meant: an exact one, a range, or ``latest``.

        Raises SkillUnknown (NotFound), SkillWithheld (Conflict), SkillVersionMalformed (Invalid).
        """
        there = [version for one, version in self._skills if one == name and (one, version) not in self._withheld]
        self.count("resolved")
        return self.get(name, versions.chosen(wanted, there) or wanted)

    def _unknown(self, name: str, version: str) -> SkillUnknown:
        there = [v for n, v in sorted(self._skills) if n == name]
        known = f"its loaded versions are {', '.join(there)}" if there else "no skill of that name is loaded"
        return SkillUnknown(
            f"skill '{name}' version '{version}' is not loaded; {known}",
            then="Check the spelling, or name its module in AGENTOS_SKILLS.",
        )

    def nearest(self, name: str, version: str) -> Skill | None:
        """The skill of that name and version; another version of it where that one is not loaded; None without any."""
        there = [one for one in self.every() if one.name == name]
        return self._skills.get((name, version)) or next(reversed(there), None)

    def input_schema(self, name: str, version: str) -> dict[str, Any] | None:
        """The schema of a skill's arguments, of another version where that one is not loaded; None without any."""
        found = self.nearest(name, version)
        return None if found is None else found.input_schema

    def knows(self, name: str) -> bool:
        """Whether any version of a skill of that name is loaded."""
        return any(one == name for one, _version in self._skills)

    def pinned(self, name: str, version: str, digest: str) -> Skill:
        """The very skill that a version pinned. Raises SkillUnknown (NotFound), SkillChanged or SkillWithheld."""
        found = self.get(name, version)
        if found.digest != digest:
            self.count("changed")
            raise SkillChanged(
                f"skill '{name}' version '{version}' changed without a new version",
                where=f"pinned {digest[:19]}, loaded {found.digest[:19]}",
                then="Give the changed skill a new version in a module of its own and apply the agent again.",
            )
        return found


def canonical_arguments(one: Skill, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The arguments as they will execute: checked against the schema, defaults filled in, in JSON form; and as bytes.

    What has no canonical form is refused before anyone is asked to approve it. Raises ArgumentsRefused (Invalid) naming
    the first argument that does not fit, or NotCanonical (Invalid).
    """
    model = _inputs[one.digest]
    try:
        checked = model.model_validate(arguments).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ArgumentsRefused(
            f"{one.name}: {'.'.join(str(part) for part in first['loc']) or 'arguments'}: {first['msg']}",
            then="Call the skill with arguments that fit its schema.",
        ) from None
    return checked, canonical(checked)


async def execute(one: Skill, context: SkillContext, arguments: dict[str, Any]) -> Any:
    """Call a skill once within its timeout and give back JSON data that fits its output schema.

    Raises the skill's own AgentOSError, SkillTimedOut (Unavailable), SkillRaised or SkillBrokeSchema (Bug).
    """
    try:
        async with asyncio.timeout(one.timeout.total_seconds()) as limit:
            value = await one.call(context, arguments)
    except AgentOSError:
        raise
    except (Exception, SystemExit) as error:  # a skill that calls sys.exit() must not end the worker
        if isinstance(error, TimeoutError) and limit.expired():
            raise SkillTimedOut(f"skill '{one.name}' did not end within {one.timeout.total_seconds():g} s") from None
        raise SkillRaised(f"skill '{one.name}' raised {type(error).__name__}: {str(error)[:300]}") from error
    output = _outputs[one.digest]
    try:
        # warnings="error": an object of the declared class is taken as it is, wrong fields come to light only here.
        data = output.dump_python(output.validate_python(value), mode="json", by_alias=True, warnings="error")
        # What goes on from here must be what a replay will read: no NaN, no lone surrogate, no integer beyond JSON's.
        if msgspec.json.decode(msgspec.json.encode(data)) != data:
            raise ValueError
        return data
    except (ValidationError, ValueError, TypeError) as error:
        where = ""
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False, include_url=False)[0]
            where = f"{'.'.join(str(part) for part in first['loc']) or 'result'}: {first['msg']}"
        raise SkillBrokeSchema(f"skill '{one.name}' returned what its schema forbids", where=where) from None


_inputs: dict[str, type[BaseModel]] = {}
_outputs: dict[str, TypeAdapter[Any]] = {}


def _build(declared: _Declared) -> Skill:
    function, place = declared.function, f"{declared.function.__module__}.{declared.function.__qualname__}"
    if not _NAME.fullmatch(declared.name):
        raise SkillMisdeclared(f"'{declared.name[:80]}' is no name for a skill: letters, digits, _ and -", where=place)
    if not versions.declarable(declared.version):
        raise SkillMisdeclared(
            f"'{declared.version[:80]}' is no version: letters, digits and . _ + -, and not 'latest'", where=place
        )
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())
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
        input_schema, output_schema = inputs.model_json_schema(), output.json_schema()
        timeout = duration(declared.timeout)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError) as error:
        raise SkillMisdeclared(f"its types have no JSON schema: {error}", where=place) from error
    if declared.lookup is not None and not inspect.iscoroutinefunction(declared.lookup):
        raise SkillMisdeclared("lookup must be a coroutine function", where=place)
    described = inspect.getdoc(function) or ""
    promised = _promised(declared, output_schema, place)
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
            "input": input_schema,
            "output": output_schema,
            "source": _source(function),
        }
    )
    _inputs[pinned], _outputs[pinned] = inputs, output

    async def call(context: SkillContext, arguments: dict[str, Any]) -> Any:
        checked = inputs.model_validate(arguments)
        values = {name: getattr(checked, name) for name in fields}
        first: Sequence[Any] = (context,) if wants_context else ()
        if inspect.iscoroutinefunction(function):
            return await function(*first, **values)
        return await _in_thread(lambda: function(*first, **values))

    return Skill(
        name=declared.name,
        version=declared.version,
        effect=declared.effect,
        description=described,
        input_schema=input_schema,
        output_schema=output_schema,
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


def _promised(declared: _Declared, output_schema: dict[str, Any], place: str) -> dict[str, Any]:
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


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work on a daemon thread of its own: a call that never ends blocks neither the pool nor the exit."""
    places = _sync_calls
    if not places.acquire(blocking=False):
        raise SkillsBusy(
            f"{MAX_SYNC_CALLS} synchronous skill calls are under way in this worker",
            then="Look for skills that never end, restart the worker.",
        )
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(value)

    def run() -> None:
        value, caught = None, None
        try:
            value = work()
        except BaseException as error:  # handed to the caller whole: it decides what the error means
            # A future cannot carry StopIteration.
            caught = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
        finally:
            places.release()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, caught)

    threading.Thread(target=run, name="skill", daemon=True).start()
    return await future
