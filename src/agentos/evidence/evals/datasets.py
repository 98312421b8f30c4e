"""A file of cases, one JSON object a line, read so that a broken line costs that line and is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Final

from agentos.evidence.evals import scorers
from agentos.evidence.evals.model import (
    MOST_BROKEN,
    MOST_CASE_BYTES,
    MOST_CASES,
    MOST_FILE_BYTES,
    MOST_FIXTURES,
    MOST_SCORERS,
    MOST_TAGS,
    Broken,
    Case,
    DatasetBroken,
    DatasetTooLarge,
    Fixture,
    Scorer,
)
from agentos.kernel.canonical import canonical_parsed
from agentos.kernel.errors import AgentOSError
from agentos.kernel.nesting import MOST_DEPTH, shallow

_FIELDS: Final = frozenset({"id", "input", "expected", "scorers", "scorer", "fixtures", "tags"})
_NAME: Final = 200  # characters of an id, a tag, a skill
_TOLD: Final = 20  # broken lines that an error lists


class _NoCase(Exception):  # the reason of a broken line
    """Why a line is no case."""


def read(data: bytes) -> tuple[list[Case], tuple[Broken, ...]]:
    """The cases of a file and its broken lines. Empty lines count as lines and are nothing else.

    Raises DatasetTooLarge, and DatasetBroken (Invalid) when no line is a case.
    """
    if len(data) > MOST_FILE_BYTES:
        raise DatasetTooLarge(f"the file has {len(data)} bytes, at most {MOST_FILE_BYTES}", then="Split it.")
    cases: list[Case] = []
    broken: list[Broken] = []
    seen: dict[str, int] = {}
    for line, raw in _lines(data):
        try:
            case = _case(raw, line, len(cases))
            if case.id in seen:
                raise _NoCase(f"its id '{case.id}' is that of line {seen[case.id]}")
        except _NoCase as why:
            broken.append(Broken(line, str(why)[:500]))
            if len(broken) > MOST_BROKEN:
                raise DatasetBroken(
                    f"more than {MOST_BROKEN} lines are no cases",
                    then="Is this JSON Lines? Each line is one object with 'id' and 'input'.",
                    problems=_shown(broken),
                ) from None
            continue
        seen[case.id] = line
        cases.append(case)
        if len(cases) > MOST_CASES:
            raise DatasetTooLarge(f"the file has more than {MOST_CASES} cases", then="Split it.")
    if not cases:
        first = f"line {broken[0].line}: {broken[0].reason}" if broken else "it is empty"
        raise DatasetBroken(f"the file holds no case: {first}", then="Mend its lines.", problems=_shown(broken))
    return cases, tuple(broken)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    for number, raw in enumerate(data.split(b"\n"), 1):
        if stripped := raw.strip():
            yield number, stripped


def _shown(broken: list[Broken]) -> list[dict[str, Any]]:
    return [{"line": one.line, "reason": one.reason} for one in broken[:_TOLD]]


def _case(raw: bytes, line: int, number: int) -> Case:
    if len(raw) > MOST_CASE_BYTES:
        raise _NoCase(f"it has {len(raw)} bytes, at most {MOST_CASE_BYTES}")
    try:
        said = json.loads(raw, parse_constant=_no_number, parse_float=_finite)
        shallow(said)
        canonical_parsed(said)
    except json.JSONDecodeError as error:
        raise _NoCase(f"it is not JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError:
        raise _NoCase("it is not UTF-8") from None
    except RecursionError:
        raise _NoCase(f"it nests deeper than {MOST_DEPTH}") from None
    except ValueError as error:
        raise _NoCase(f"it is {error}") from None
    except AgentOSError as error:
        raise _NoCase(error.what) from None
    if not isinstance(said, dict):
        raise _NoCase("it is no JSON object")
    if strange := sorted(set(said) - _FIELDS):
        raise _NoCase(f"there is no field '{strange[0][:40]}'; there are {', '.join(sorted(_FIELDS))}")
    if "input" not in said:
        raise _NoCase("it has no 'input'")
    name = said.get("id")
    if not isinstance(name, str) or not name or len(name) > _NAME or not name.isprintable():
        raise _NoCase(f"its 'id' is no text of 1 to {_NAME} printable characters")
    return Case(
        number=number,
        line=line,
        id=name,
        input=said["input"],
        expected=said.get("expected"),
        scorers=_scorers(said),
        fixtures=_fixtures(said.get("fixtures", [])),
        tags=_tags(said.get("tags", [])),
    )


def _no_number(written: str) -> float:
    raise _NoCase(f"{written} is no number of JSON")


def _finite(written: str) -> float:
    value = float(written)
    return value if isfinite(value) else _no_number(written[:40])


def _scorers(said: Mapping[str, Any]) -> tuple[Scorer, ...]:
    if ("scorer" in said) == ("scorers" in said):
        raise _NoCase("it needs either 'scorer' or 'scorers'")
    given = said.get("scorers", [said.get("scorer")])
    if not isinstance(given, list) or not 0 < len(given) <= MOST_SCORERS:
        raise _NoCase(f"'scorers' is a list of 1 to {MOST_SCORERS}")
    found: list[Scorer] = []
    for one in given:
        wanted = {"kind": one} if isinstance(one, str) else one
        try:
            scorer = scorers.read(wanted, said.get("expected"), has_expected="expected" in said)
        except scorers.NoScorer as why:
            raise _NoCase(str(why)) from None
        if scorer.name in {other.name for other in found}:
            raise _NoCase(f"two scorers are named '{scorer.name}'; give one a 'name'")
        found.append(scorer)
    return tuple(found)


def _fixtures(given: Any) -> tuple[Fixture, ...]:
    if not isinstance(given, list) or len(given) > MOST_FIXTURES:
        raise _NoCase(f"'fixtures' is a list of at most {MOST_FIXTURES}")
    found = []
    for one in given:
        if not isinstance(one, dict) or set(one) - {"skill", "arguments", "answer", "error"}:
            raise _NoCase("a fixture is an object of 'skill', 'arguments', 'answer' or 'error'")
        skill, error = one.get("skill"), one.get("error", "")
        if not isinstance(skill, str) or not skill or len(skill) > _NAME:
            raise _NoCase("a fixture names its 'skill'")
        if ("answer" in one) == bool(error) or not isinstance(error, str):
            raise _NoCase(f"the fixture of '{skill}' needs either an 'answer' or an 'error' in words")
        found.append(Fixture(skill, one.get("arguments"), one.get("answer"), error[:2000]))
    return tuple(found)


def _tags(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) > MOST_TAGS:
        raise _NoCase(f"'tags' is a list of at most {MOST_TAGS}")
    if not all(isinstance(one, str) and 0 < len(one) <= _NAME for one in given):
        raise _NoCase("a tag is a text")
    return tuple(given)
