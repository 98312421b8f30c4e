"""Load skills, and call them within their own contract.

A call is checked against the schemas on the way in and on the way out, so what is journaled always fits what the
version pinned.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from agentos.kernel.canonical import canonical
from agentos.kernel.errors import AgentOSError
from agentos.runtime.skills import declaring, versions
from agentos.runtime.skills.model import (
    ArgumentsRefused,
    Skill,
    SkillBrokeSchema,
    SkillChanged,
    SkillContext,
    SkillMisdeclared,
    SkillRaised,
    SkillTimedOut,
    SkillUnknown,
    SkillWithheld,
)

ENTRY_POINTS: Final = "agentos.skills"  # group under which an installed package names its modules of skills


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
            for declared in declaring.declared_in.get(module, ()):
                self.add(declaring.build(declared))
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
    model = declaring.inputs[one.digest]
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
    output = declaring.outputs[one.digest]
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
