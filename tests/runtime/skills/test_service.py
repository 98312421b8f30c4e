"""Skills: what a declaration promises, and that a call keeps to it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.kernel.canonical import digest
from agentos.kernel.errors import Bug, Conflict, Exhausted, Invalid, NotFound, Unavailable
from agentos.runtime.skills import Cost, Registry, Reversibility, Skill, SkillContext, declaring, threads
from agentos.runtime.skills.model import (
    ArgumentsRefused,
    Contract,
    SkillBrokeSchema,
    SkillChanged,
    SkillMisdeclared,
    SkillRaised,
    SkillsBusy,
    SkillTimedOut,
    SkillUnknown,
    SkillWithheld,
)
from agentos.runtime.skills.service import canonical_arguments, execute

CONTEXT = SkillContext(organization="acme", run_id="run_1", key="key-1", timeout=timedelta(seconds=5))

HEAD = """
import asyncio, sys, time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Annotated
from pydantic import BaseModel, Field
from agentos.kernel.errors import Conflict
from agentos.runtime.skills import Lookup, SkillContext, skill
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of skills that can be imported; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def module(source: str, name: str = "") -> str:
        name = name or f"skills_of_{tmp_path.name}_{len(made)}"
        (tmp_path / f"{name}.py").write_text(HEAD + source)
        made.append(name)
        return name

    yield module
    for name in made:
        sys.modules.pop(name, None)


def load(*modules: str) -> Registry:
    return Registry().load(modules, entry_points=False)


def only(*modules: str) -> Skill:
    (one,) = load(*modules).every()
    return one


async def call(one: Skill, **arguments: Any) -> Any:
    return await execute(one, CONTEXT, canonical_arguments(one, arguments)[0])


def test_hints_become_schemas_and_words_become_properties(write: Write) -> None:
    one = only(
        write('''
class Found(BaseModel):
    total: int

async def ask(context, arguments): return Lookup(happened=True)

@skill(version="3", effect="S3", reversibility="irreversible", idempotent=True, timeout="90s", lookup=ask)
def search(context: SkillContext, query: Annotated[str, Field(max_length=10)], limit: int = 5) -> Found:
    """Search it."""
    return Found(total=limit)
''')
    )
    assert (one.name, one.version, one.effect.name, one.description) == ("search", "3", "S3", "Search it.")
    assert (one.reversibility, one.idempotent, one.timeout) == (Reversibility.IRREVERSIBLE, True, timedelta(seconds=90))
    assert one.input_schema["required"] == ["query"]
    assert one.input_schema["properties"]["query"]["maxLength"] == 10
    assert one.input_schema["additionalProperties"] is False
    assert "context" not in one.input_schema["properties"]
    assert one.output_schema["properties"] == {"total": {"title": "Total", "type": "integer"}}
    assert one.repeatable
    assert not one.read_only
    assert one.lookup


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("@skill(version='1', effect='S0')\ndef a(x) -> int: return 1", "parameter 'x' needs a type hint"),
        ("@skill(version='1', effect='S0')\ndef a(*x: int) -> int: return 1", "parameter 'x' needs a type hint"),
        ("@skill(version='1', effect='S0')\ndef a(x: int): return 1", "result needs a type hint"),
        ("@skill(version='1', effect='S0')\ndef a(x: asyncio.Lock) -> int: return 1", "no JSON schema"),
        ("@skill(version='1', effect='S9')\ndef a(x: int) -> int: return 1", "cannot be imported: KeyError"),
        ("@skill(version='1', effect='S0', timeout='soon')\ndef a() -> int: return 1", "not a duration"),
        ("@skill(version='1', effect='S0', name='a b')\ndef a() -> int: return 1", "no name for a skill"),
        ("@skill(version='1', effect='S3', lookup=lambda c, a: None)\ndef a() -> int: return 1", "lookup must be"),
        ("raise RuntimeError('at import')", "cannot be imported: RuntimeError: at import"),
        ("sys.exit(3)", "cannot be imported: SystemExit"),
    ],
)
def test_a_bad_declaration_is_refused_with_its_reason(write: Write, source: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        load(write(source))


def test_an_unknown_skill_or_version_names_what_there_is(write: Write) -> None:
    registry = load(write("@skill(version='1', effect='S0')\ndef search() -> int: return 1"))
    with pytest.raises(SkillUnknown, match="loaded versions are 1") as caught:
        registry.get("search", "2")
    assert isinstance(caught.value, NotFound)
    with pytest.raises(SkillUnknown, match=r"no skill of that name is loaded.*AGENTOS_SKILLS"):
        registry.get("find", "1")
    with pytest.raises(SkillMisdeclared, match="'no_such_module' cannot be imported"):
        load("no_such_module")


@pytest.mark.parametrize(
    "changed",
    [
        "@skill(version='1', effect='S0')\ndef search(n: int) -> int: return n + 1",  # another body
        "@skill(version='1', effect='S0')\ndef search(n: str) -> int: return 1",  # another schema
        "@skill(version='1', effect='S1')\ndef search(n: int) -> int: return n",  # another effect
        "@skill(version='1', effect='S0', timeout='31s')\ndef search(n: int) -> int: return n",
        "X = 2\n@skill(version='1', effect='S0')\ndef search(n: int) -> int: return n",  # what it may rest on
    ],
)
def test_a_skill_that_changed_without_a_new_version_is_refused(write: Write, changed: str) -> None:
    before = only(write("@skill(version='1', effect='S0')\ndef search(n: int) -> int: return n"))
    after = load(write(changed))
    with pytest.raises(SkillChanged, match="changed without a new version") as caught:
        after.pinned("search", "1", before.digest)
    assert isinstance(caught.value, Conflict)


def test_an_unchanged_skill_has_the_same_digest_in_every_process(write: Write) -> None:
    source = "@skill(version='1', effect='S0')\ndef search(n: int) -> int: return n"
    first, second = only(write(source)), load(write(source))
    assert second.pinned("search", "1", first.digest).digest == first.digest


async def test_two_versions_work_side_by_side(write: Write) -> None:
    registry = load(
        write("@skill(version='1', effect='S0')\ndef search(n: int) -> int: return n"),
        write("@skill(version='2', effect='S0')\ndef search(n: int, add: int = 10) -> int: return n + add"),
    )
    old, new = registry.get("search", "1"), registry.get("search", "2")
    assert (await call(old, n=1), await call(new, n=1)) == (1, 11)
    assert registry.pinned("search", "1", old.digest) is old


def test_one_name_and_version_is_one_skill(write: Write) -> None:
    source = "@skill(version='1', effect='S0')\ndef search() -> int: return {}"
    assert len(load(write(source.format(1)), write(source.format(1))).every()) == 1
    with pytest.raises(SkillMisdeclared, match="declared twice"):
        load(write(source.format(1)), write(source.format(2)))


def test_arguments_are_brought_into_the_one_form_that_executes(write: Write) -> None:
    one = only(
        write(
            "@skill(version='1', effect='S0')\ndef a(at: datetime, n: int = 3, tags: list[str] = []) -> int: return 1"
        )
    )
    assert canonical_arguments(one, {"at": "2026-01-01T00:00:00Z", "n": "4"})[0] == {
        "at": "2026-01-01T00:00:00Z",
        "n": 4,
        "tags": [],
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "a: n: Field required"),
        ({"n": "many"}, "a: n: Input should be a valid integer"),
        ({"n": 1, "m": 2}, "a: m: Extra inputs are not permitted"),
        ({"n": 1, "text": "x" * 5001}, "a: text: String should have at most 5000 characters"),
        ({"n": 1, "f": float("inf")}, "no canonical form"),
        ({"n": 1, "any": 2**60}, "no canonical form"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(write: Write, arguments: dict[str, Any], complaint: str) -> None:
    one = only(
        write(
            "@skill(version='1', effect='S0')\n"
            "def a(n: int, text: Annotated[str, Field(max_length=5000)] = '', any: Any = 0, f: float = 0) -> int:\n"
            "    return n"
        )
    )
    with pytest.raises(Invalid, match=complaint):
        canonical_arguments(one, arguments)


def test_a_refusal_does_not_repeat_the_argument(write: Write) -> None:
    one = only(write("@skill(version='1', effect='S0')\ndef a(n: int) -> int: return n"))
    with pytest.raises(ArgumentsRefused) as caught:
        canonical_arguments(one, {"n": "s3cret"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise ValueError('oh')", "raised ValueError: oh"),
        ("raise TimeoutError('a socket of its own')", "raised TimeoutError: a socket of its own"),
        ("sys.exit(1)", "raised SystemExit"),
        ("raise StopIteration", "raised RuntimeError"),
        ("raise MemoryError", "raised MemoryError"),
    ],
)
async def test_a_skill_that_raises_is_a_bug_of_the_skill(write: Write, kind: str, body: str, complaint: str) -> None:
    one = only(write(f"@skill(version='1', effect='S0')\n{kind} a() -> int:\n    {body}"))
    with pytest.raises(SkillRaised, match=complaint) as caught:
        await call(one)
    assert isinstance(caught.value, Bug)


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_skills_own_errors_pass_as_they_are(write: Write, kind: str) -> None:
    one = only(write(f"@skill(version='1', effect='S0')\n{kind} a() -> int:\n    raise Conflict('it is closed')"))
    with pytest.raises(Conflict, match="it is closed"):
        await call(one)


@pytest.mark.parametrize(
    ("hint", "value", "where"),
    [
        ("int", "'many'", "result: Input should be a valid integer"),
        ("Found", "{'items': [1, 'x']}", r"items\.1: Input should be a valid integer"),
        ("Found", "{}", "items: Field required"),
        ("Found", "Found.model_construct(items='none')", "forbids"),
        ("Point", "Point(x='east')", "forbids"),
        ("list[int]", "None", "result: Input should be a valid list"),
        ("Any", "object()", "forbids"),
        ("None", "5", "result"),
        ("float", "float('nan')", "forbids"),
        ("list[float]", "[1.0, float('inf')]", "forbids"),
        ("Any", "'\\ud800'", "forbids"),
    ],
)
async def test_a_result_that_breaks_the_schema_is_a_bug_of_the_skill(
    write: Write, hint: str, value: str, where: str
) -> None:
    one = only(
        write(
            "class Found(BaseModel):\n    items: list[int]\n"
            "@dataclass\nclass Point:\n    x: int\n"
            f"@skill(version='1', effect='S0')\ndef a() -> {hint}: return {value}"
        )
    )
    with pytest.raises(SkillBrokeSchema, match=where) as caught:
        await call(one)
    assert isinstance(caught.value, Bug)


async def test_a_result_is_json_whatever_it_was(write: Write) -> None:
    one = only(
        write(
            "@dataclass\nclass Point:\n    x: int\n    at: datetime\n"
            "@skill(version='1', effect='S0')\n"
            "def a() -> dict[str, Point]: return {'p': Point(1, datetime(2026, 1, 1))}"
        )
    )
    assert await call(one) == {"p": {"x": 1, "at": "2026-01-01T00:00:00"}}


async def test_an_async_skill_that_never_ends_is_cut_off(write: Write) -> None:
    one = only(write("@skill(version='1', effect='S0', timeout='50ms')\nasync def a() -> int: await asyncio.sleep(60)"))
    with pytest.raises(SkillTimedOut, match=r"within 0\.05 s") as caught:
        await call(one)
    assert isinstance(caught.value, Unavailable)


async def test_a_sync_skill_that_never_ends_blocks_nobody(write: Write) -> None:
    one = only(write("@skill(version='1', effect='S0', timeout='50ms')\ndef a() -> int: time.sleep(60); return 1"))
    ticks = 0

    async def others() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(others())
    with pytest.raises(SkillTimedOut):
        await asyncio.wait_for(call(one), 30)
    ticking.cancel()
    assert ticks >= 3


async def test_too_many_sync_calls_are_refused_and_come_back(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_sync_calls", threading.BoundedSemaphore(2))
    one = only(write("@skill(version='1', effect='S0', timeout='10s')\ndef a() -> int: time.sleep(0.3); return 1"))
    calls = [asyncio.create_task(call(one)) for _ in range(3)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [one for one in done if one == 1] == [1, 1]
    (busy,) = [one for one in done if isinstance(one, SkillsBusy)]
    assert isinstance(busy, Exhausted)
    assert await call(one) == 1


async def test_a_stuck_sync_call_keeps_its_place_until_it_ends(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_sync_calls", threading.BoundedSemaphore(1))
    one = only(write("@skill(version='1', effect='S0', timeout='50ms')\ndef a() -> int: time.sleep(0.4); return 1"))
    with pytest.raises(SkillTimedOut):
        await call(one)
    with pytest.raises(SkillsBusy):
        await call(one)
    await asyncio.sleep(0.5)
    with pytest.raises(SkillTimedOut):
        await call(one)


async def test_a_skill_sees_its_context_only_when_it_asks(write: Write) -> None:
    one = only(write("@skill(version='1', effect='S1')\nasync def a(context: SkillContext) -> str: return context.key"))
    assert await call(one) == "key-1"
    assert one.input_schema["properties"] == {}


def test_our_own_skills_are_pinned_by_their_text_also_when_installed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentos.adapters.skills import read_file

    monkeypatch.setattr("inspect.getsourcefile", lambda _: Path("/venv/site-packages/agentos/read_file.py"))
    monkeypatch.setattr(Path, "read_text", lambda _: "its text")
    assert declaring._source(read_file.read_file) == "its text"


def test_a_skill_that_promises_nothing_more_has_the_digest_that_it_always_had(write: Write) -> None:
    one = only(write("@skill(version='1', effect='S0', timeout='3s')\ndef a(n: int) -> int: return n"))
    place = Path(sys.modules[next(name for name in sys.modules if name.startswith("skills_of_"))].__file__ or "")
    assert one.digest == digest(
        {
            "name": "a",
            "version": "1",
            "effect": "S0",
            "reversibility": "reversible",
            "idempotent": False,
            "timeout": "3s",
            "retry": [3, 0.2, 2.0],
            "input": one.input_schema,
            "output": one.output_schema,
            "source": place.read_text(),
        }
    )
    assert (one.stable, one.cost, one.failures) == ((), None, None)


PROMISES = """
class Found(BaseModel):
    total: int
    items: list[dict[str, Any]] = []

@skill(version='1', effect='S0'{promised})
def a(n: int) -> Found: return Found(total=n)
"""


def test_what_a_skill_promises_is_in_its_contract_and_its_digest(write: Write) -> None:
    promised = ", stable=('total', 'items[]'), cost=Cost(per_call=5), failures=(Gone, Busy)"
    head = (
        "from agentos.kernel.errors import NotFound as Gone, Exhausted as Busy\nfrom agentos.runtime.skills import Cost"
    )
    one = only(write(head + PROMISES.format(promised=promised)))
    assert one.contract.stable == ("total", "items[]")
    assert one.contract.cost == Cost(per_call=5)
    assert one.contract.failures == tuple(sorted((NotFound.code, Exhausted.code)))
    assert Contract.read(json.loads(json.dumps(one.contract.document()))) == one.contract
    other = only(write(head + PROMISES.format(promised=promised.replace("5", "6"))))
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("promised", "complaint"),
    [
        (", stable=('gone',)", "no field 'gone' that could be stable"),
        (", stable=('total[]',)", "no field"),
        (", stable=('items.id',)", "no field"),
        (", cost=Cost(per_call=-1)", "never negative"),
        (", cost=Cost(per_unit=3)", "names the unit"),
        (", failures=(ValueError,)", "no class of errors of ours"),
        (", failures=('busy',)", "no class of errors of ours"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(write: Write, promised: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        load(write("from agentos.runtime.skills import Cost" + PROMISES.format(promised=promised)))


@pytest.mark.parametrize("version", ["latest", "^1", "1 2", ""])
def test_a_version_that_reads_as_a_range_is_refused(write: Write, version: str) -> None:
    with pytest.raises(Invalid, match="is no version"):
        load(write(f"@skill(version='{version}', effect='S0')\ndef a() -> int: return 1"))


def test_a_registry_resolves_ranges_among_what_it_serves(write: Write) -> None:
    declared = "@skill(version='{}', effect='S0')\ndef a() -> int: return 1"
    counted: list[str] = []
    registry = Registry(counted.append).load(
        [write(declared.format(one)) for one in ("1.0.0", "1.2.0", "2.0.0")], entry_points=False
    )
    assert [registry.resolve("a", wanted).version for wanted in ("^1", "latest", "1.0.0")] == [
        "1.2.0",
        "2.0.0",
        "1.0.0",
    ]
    registry.withhold({("a", "2.0.0"): "it was changed"})
    assert registry.resolve("a", "latest").version == "1.2.0"
    with pytest.raises(SkillWithheld, match=r"'a' version '2\.0\.0' is not served here: it was changed"):
        registry.resolve("a", "2.0.0")
    with pytest.raises(SkillWithheld):
        registry.pinned("a", "2.0.0", registry.digests["a", "2.0.0"])
    with pytest.raises(SkillUnknown, match=r"its loaded versions are 1\.0\.0, 1\.2\.0, 2\.0\.0"):
        registry.resolve("a", "^3")
    assert {"resolved", "found", "withheld", "missing"} <= set(counted)
