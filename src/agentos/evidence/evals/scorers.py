"""What an answer is worth: pure functions of what was expected and what came.

``judge`` is the one that asks a model; here is its form, and ``cases`` asks it. Patterns are RE2's, whose time only
grows with the text; schemas are those of manifests, and held against outputs as runs do it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import re2

from agentos.evidence.evals.model import Score, Scorer
from agentos.kernel.canonical import NotCanonical, canonical_parsed
from agentos.kernel.schemas import faults, misfit

KINDS: Final = ("exact", "subset", "regex", "json_schema", "number", "judge")
MOST_PATTERN: Final = 2000  # characters
MOST_RUBRIC: Final = 10_000  # characters
PATTERN_MEMORY: Final = 4 * 1024 * 1024  # bytes that RE2 may take for one pattern
TOP_GRADE: Final = 4  # of a judge
PASSING_GRADE: Final = 3

_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "exact": frozenset({"ignore_case", "trim"}),
    "subset": frozenset(),
    "regex": frozenset({"pattern", "ignore_case"}),
    "json_schema": frozenset({"schema"}),
    "number": frozenset({"tolerance", "relative"}),
    "judge": frozenset({"rubric", "model", "pass"}),
}
_COMMON: Final = frozenset({"kind", "name", "of", "at"})
_OF: Final = ("output", "calls")


class Nothing(Exception):
    """What a scorer is to look at is not there, and why."""


class NoScorer(Exception):  # the reason of a broken line
    """Why this is no scorer."""


def read(wanted: Any, expected: Any, *, has_expected: bool) -> Scorer:
    """The scorer that a case wants. Raises NoScorer with the reason."""
    if not isinstance(wanted, dict) or wanted.get("kind") not in KINDS:
        said = str(wanted.get("kind") if isinstance(wanted, dict) else wanted)[:40]
        raise NoScorer(f"there is no scorer '{said}'; there are {', '.join(KINDS)}")
    kind = str(wanted["kind"])
    if strange := sorted(set(wanted) - _COMMON - _OPTIONS[kind]):
        raise NoScorer(f"the scorer '{kind}' has no option '{strange[0][:40]}'")
    name = wanted.get("name", kind)
    if not isinstance(name, str) or not 0 < len(name) <= 63 or not name.isprintable() or name == "all":
        raise NoScorer("a scorer's 'name' is a text of 1 to 63 printable characters, and not 'all'")
    if wanted.get("of", "output") not in _OF:
        raise NoScorer(f"'of' is one of {', '.join(_OF)}")
    at = wanted.get("at", "")
    if not isinstance(at, str) or len(at) > 1000 or (at and not at.startswith("/")):
        raise NoScorer("'at' is a JSON pointer, such as /total")
    options = {key: value for key, value in wanted.items() if key not in ("kind", "name")}
    _CHECKS[kind](options, expected, has_expected)
    return Scorer(name, kind, options)


def score(scorer: Scorer, expected: Any, output: Any, calls: list[dict[str, Any]]) -> Score:
    """What an answer is worth by a scorer that asks nobody."""
    try:
        found = looked_at(scorer, output, calls)
    except Nothing as missing:
        return Score(0.0, False, str(missing))
    passed, why = _SCORES[scorer.kind](scorer.options, expected, found)
    return Score(1.0 if passed else 0.0, passed, why)


def looked_at(scorer: Scorer, output: Any, calls: list[dict[str, Any]]) -> Any:
    """The part of an answer that a scorer looks at. Raises Nothing."""
    return _at(calls if scorer.options.get("of") == "calls" else output, scorer.options.get("at", ""))


def is_subset(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is found: members of objects, and elements of lists in their order."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and is_subset(value, found[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return False
        rest = iter(found)
        return all(any(is_subset(one, other) for other in rest) for one in wanted)
    return _same(wanted, found)


def text_of(found: Any) -> str:
    """What is found as text: itself where it is one, else its canonical JSON, as far as it has one."""
    if isinstance(found, str):
        return found
    try:
        return canonical_parsed(found).decode()
    except NotCanonical:
        return json.dumps(found, sort_keys=True, separators=(",", ":"))


def _at(value: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to. Raises Nothing."""
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(value):
            value = value[int(step[:9])]
        else:
            raise Nothing(f"there is nothing at {pointer[:200]}")
    return value


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return (type(one) is type(other) and bool(one == other)) or (_is_number(one) and _is_number(other) and one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return _same(one, other)


def _exact(options: Mapping[str, Any], expected: Any, found: Any) -> tuple[bool, str]:
    if isinstance(expected, str) and isinstance(found, str):
        if options.get("trim"):
            expected, found = expected.strip(), found.strip()
        if options.get("ignore_case"):
            expected, found = expected.casefold(), found.casefold()
    return (True, "") if _equal(expected, found) else (False, "it is not what was expected")


def _subset(_options: Mapping[str, Any], expected: Any, found: Any) -> tuple[bool, str]:
    return (True, "") if is_subset(expected, found) else (False, "not all that was expected is in it")


def _regex(options: Mapping[str, Any], expected: Any, found: Any) -> tuple[bool, str]:
    pattern = _pattern(options.get("pattern", expected), bool(options.get("ignore_case")))
    return (True, "") if pattern.search(text_of(found)) else (False, "the pattern is not in it")


def _json_schema(options: Mapping[str, Any], expected: Any, found: Any) -> tuple[bool, str]:
    error = misfit(options.get("schema", expected), found)
    return (True, "") if error is None else (False, f"{error.json_path}: {error.message}"[:300])


def _number(options: Mapping[str, Any], expected: Any, found: Any) -> tuple[bool, str]:
    if isinstance(found, str):
        try:
            found = float(found)
        except ValueError:
            return False, "it is no number"
    if not _is_number(found) or not math.isfinite(found):
        return False, "it is no number"
    allowed = max(options.get("tolerance", 0), options.get("relative", 0) * abs(expected))
    away = abs(found - expected)
    return (True, "") if away <= allowed else (False, f"it is {away:g} away, {allowed:g} is allowed")


_SCORES: Final[Mapping[str, Callable[[Mapping[str, Any], Any, Any], tuple[bool, str]]]] = {
    "exact": _exact,
    "subset": _subset,
    "regex": _regex,
    "json_schema": _json_schema,
    "number": _number,
}


@lru_cache(1000)
def _pattern(pattern: str, ignore_case: bool) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = PATTERN_MEMORY, False, not ignore_case
    return re2.compile(pattern, options)


def _needs_expected(options: Mapping[str, Any], _expected: Any, has_expected: bool) -> None:
    for flag in ("ignore_case", "trim"):
        if not isinstance(options.get(flag, False), bool):
            raise NoScorer(f"'{flag}' is true or false")
    if not has_expected:
        raise NoScorer("the case says nothing of what is 'expected'")


def _check_regex(options: Mapping[str, Any], expected: Any, _has_expected: bool) -> None:
    _check_flag(options, "ignore_case")
    _check_pattern(options.get("pattern", expected))


def _check_flag(options: Mapping[str, Any], flag: str) -> None:
    if not isinstance(options.get(flag, False), bool):
        raise NoScorer(f"'{flag}' is true or false")


def _check_pattern(pattern: Any) -> None:
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MOST_PATTERN:
        raise NoScorer(f"a pattern is a text of 1 to {MOST_PATTERN} characters")
    try:
        _pattern(pattern, False)
    except re2.error as error:
        said = error.args[0] if error.args else error
        raise NoScorer(f"the pattern is none of RE2: {said.decode() if isinstance(said, bytes) else said}") from None


def _check_schema(options: Mapping[str, Any], expected: Any, _has_expected: bool) -> None:
    if found := faults(options.get("schema", expected)):
        raise NoScorer(found[0].what)


def _check_number(options: Mapping[str, Any], expected: Any, _has_expected: bool) -> None:
    if not _is_number(expected):
        raise NoScorer("the scorer 'number' needs a number that is 'expected'")
    for name in ("tolerance", "relative"):
        value = options.get(name, 0)
        if not _is_number(value) or value < 0:
            raise NoScorer(f"'{name}' is a number of 0 or more")


def _check_judge(options: Mapping[str, Any], _expected: Any, _has_expected: bool) -> None:
    rubric, least, model = options.get("rubric"), options.get("pass", PASSING_GRADE), options.get("model")
    if not isinstance(rubric, str) or not 0 < len(rubric) <= MOST_RUBRIC:
        raise NoScorer(f"a judge needs a 'rubric', a text of 1 to {MOST_RUBRIC} characters")
    if not isinstance(least, int) or isinstance(least, bool) or not 1 <= least <= TOP_GRADE:
        raise NoScorer(f"'pass' is the least grade that passes, 1 to {TOP_GRADE}")
    if not isinstance(model, dict) or not isinstance(model.get("provider"), str):
        raise NoScorer("a judge needs a 'model', a model policy such as {provider: claude, name: …}")


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any], Any, bool], None]]] = {
    "exact": _needs_expected,
    "subset": _needs_expected,
    "regex": _check_regex,
    "json_schema": _check_schema,
    "number": _check_number,
    "judge": _check_judge,
}
