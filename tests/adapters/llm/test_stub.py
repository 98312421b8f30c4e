"""The stub model: scripts, behaviours, and never a model's name for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentos.adapters.llm.stub import BadStubPolicy, Stub, behaviour, check_policy, known_behaviours, load_behaviours
from agentos.runtime.inference import Answer, Call, Message, Question, Result, Stop, Tool, Usage
from agentos.runtime.inference.model import ModelMisbehaved, ModelRejectedRequest, ModelUnavailable

SCRIPT = [
    {"text": "Reading.", "calls": [{"skill": "git_log", "arguments": {"path": "."}}, {"skill": "git_log"}]},
    {"text": "Done."},
]


@behaviour("tests.counts_messages")
def counts(question: Question) -> str:
    return f"{len(question.messages)} messages"


@behaviour("tests.calls_async")
async def calls_async(question: Question) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"calls": [{"skill": "git_log", "arguments": {"limit": 3}}]}


@behaviour("tests.poses_as_a_model")
def poses(question: Question) -> Answer:
    return Answer("I am real", provider="claude", model="claude-best", usage=Usage(1, 1))


@behaviour("tests.raises")
def raises(question: Question) -> str:
    raise ValueError("oh")


@behaviour("tests.says_nothing")
def says_nothing(question: Question) -> Any:
    return None


@behaviour("tests.never_ends")
async def never_ends(question: Question) -> str:
    await asyncio.sleep(60)
    return "late"


def question(turns: int = 0, **options: Any) -> Question:
    call = Call("stub_0_0", "git_log", {})
    told = [Message("user", "Write notes.")]
    for _ in range(turns):
        told += [Message("assistant", calls=(call,)), Message("tool", results=(Result("stub_0_0", "[]"),))]
    tools = (Tool("git_log", "Read commits", {"type": "object"}),)
    return Question("stub-1", "Be brief.", tuple(told), tools, timeout=timedelta(seconds=0.2), options=options)


async def test_a_script_goes_on_where_the_conversation_is() -> None:
    first = await Stub().ask(question(script=SCRIPT))
    assert (first.text, first.stop) == ("Reading.", Stop.CALLS)
    assert first.calls == (Call("stub_0_0", "git_log", {"path": "."}), Call("stub_0_1", "git_log", {}))
    last = await Stub().ask(question(1, script=SCRIPT))  # another process, the same conversation
    assert (last.text, last.stop, last.calls) == ("Done.", Stop.END, ())


async def test_the_same_question_has_the_same_answer() -> None:
    assert await Stub().ask(question(script=SCRIPT)) == await Stub().ask(question(script=SCRIPT))


async def test_past_its_end_a_script_says_so() -> None:
    with pytest.raises(ModelRejectedRequest, match="has 2 steps and step 3 was asked for"):
        await Stub().ask(question(2, script=SCRIPT))


async def test_a_behaviour_answers_with_text_or_step_sync_or_async() -> None:
    assert (await Stub().ask(question(behaviour="tests.counts_messages"))).text == "1 messages"
    answer = await Stub().ask(question(1, behaviour="tests.calls_async"))
    assert answer.calls == (Call("stub_1_0", "git_log", {"limit": 3}),)


async def test_a_stub_is_never_taken_for_a_model() -> None:
    answer = await Stub().ask(question(behaviour="tests.poses_as_a_model"))
    assert (answer.provider, answer.model) == ("stub", "stub-1")
    assert answer.usage != Usage(1, 1)


async def test_tokens_are_one_for_four_bytes_of_json() -> None:
    read = '["12345",[],[{"role":"user","text":"678","calls":[],"results":[]}]]'
    written = '["ä234567",[]]'
    bare = Question("stub-1", "12345", (Message("user", "678"),), options={"script": [{"text": "ä234567"}]})
    assert (await Stub().ask(bare)).usage == Usage(input=-(-len(read) // 4), output=4)
    assert len(written.encode()) == 15


async def test_an_unknown_behaviour_names_the_known_ones() -> None:
    with pytest.raises(ModelRejectedRequest, match=r"no stub behaviour 'tests.nobody'.*tests\.counts_messages"):
        await Stub().ask(question(behaviour="tests.nobody"))


@pytest.mark.parametrize("name", ["tests.raises", "tests.says_nothing"])
async def test_a_behaviour_that_breaks_is_a_bug(name: str) -> None:
    with pytest.raises(ModelMisbehaved):
        await Stub().ask(question(behaviour=name))


async def test_a_behaviour_that_never_ends_is_cut_off() -> None:
    with pytest.raises(ModelUnavailable, match=r"0\.2 s"):
        await Stub().ask(question(behaviour="tests.never_ends"))


def test_a_name_belongs_to_one_function() -> None:
    with pytest.raises(BadStubPolicy, match=r"tests\.raises"):
        behaviour("tests.raises")(lambda question: "mine now")


def test_behaviours_are_loaded_from_modules() -> None:
    load_behaviours([__name__])
    assert "tests.raises" in known_behaviours()
    with pytest.raises(BadStubPolicy, match="'no_such_module_here' cannot be imported"):
        load_behaviours(["no_such_module_here"])


@pytest.mark.parametrize("policy", [{"script": SCRIPT, "provider": "stub"}, {"behaviour": "tests.raises"}])
def test_a_good_policy_is_accepted(policy: dict[str, Any]) -> None:
    check_policy(policy)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ({}, "either a script or a behaviour"),
        ({"script": SCRIPT, "behaviour": "tests.raises"}, "not both"),
        ({"behaviour": "tests.nobody"}, "no stub behaviour"),
        ({"behaviour": ["x"]}, "no stub behaviour"),
        ({"script": []}, "at least one step"),
        ({"script": "text"}, "at least one step"),
        ({"script": [{"text": "a"}, "b"]}, r"mapping \(script\[1\]\)"),
        ({"script": [{"say": "a"}]}, r"no field 'say' \(script\[0\]\)"),
        ({"script": [{}]}, "says a text or makes calls"),
        ({"script": [{"text": 5}]}, r"script\[0\]\.text"),
        ({"script": [{"calls": {}}]}, r"script\[0\]\.calls"),
        ({"script": [{"calls": [{"arguments": {}}]}]}, r"names its skill \(script\[0\]\.calls\[0\]\.skill\)"),
        ({"script": [{"calls": [{"skill": "x", "arguments": []}]}]}, r"script\[0\]\.calls\[0\]\.arguments"),
        ({"script": [{"calls": [{"skill": "x", "args": {}}]}]}, r"a skill and its arguments"),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(policy: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadStubPolicy, match=complaint):
        check_policy(policy)
