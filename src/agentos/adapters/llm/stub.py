"""The stub model: answers computed in this process, the same ones every time, and never passed off as a model's.

A model policy gives it one of two:

``script``      a list of steps, each ``{text: …}`` or ``{calls: [{skill: …, arguments: {…}}], text: …}``. The step is
                chosen by the number of assistant turns so far, so a run that is resumed elsewhere goes on at its place.
``behaviour``   the name of a Python function ``(Question) -> str | step | Answer``, sync or async, that a module has
                registered with ``@behaviour("name")``. The modules are loaded like those of skills.

With neither it stands in for a model that a switch took away (``stand_in``); no version may name it so.

Usage is an estimate that depends on the text alone: one token for every four bytes, rounded up, the usual rule of thumb
for English. What was read and what was said are counted as JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from agentos.adapters.llm.stand_in import stand_in
from agentos.kernel.errors import AgentOSError
from agentos.runtime.inference.bounds import BYTES_PER_TOKEN
from agentos.runtime.inference.model import (
    Answer,
    Call,
    Message,
    ModelMisbehaved,
    ModelRejectedRequest,
    ModelUnavailable,
    Stop,
    Usage,
)
from agentos.runtime.inference.ports import Hear, Question

AnswerLike = str | Mapping[str, Any] | Answer
Behaviour = Callable[[Question], AnswerLike | Awaitable[AnswerLike]]
B = TypeVar("B", bound=Callable[[Question], Any])

_behaviours: dict[str, Behaviour] = {}  # filled as modules are imported


class BadStubPolicy(ModelRejectedRequest):
    """A stub's model policy is not of the form of a script, or names a behaviour that is not loaded."""

    code = "bad_stub_policy"


def behaviour(name: str) -> Callable[[B], B]:
    """Register a function under a name that model policies may use. Raises BadStubPolicy when the name is taken."""

    def register(function: B) -> B:
        known = _behaviours.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise BadStubPolicy(
                f"two functions are registered as behaviour '{name}'", where=function.__module__, then="Rename one."
            )
        _behaviours[name] = function
        return function

    return register


def load_behaviours(modules: Iterable[str]) -> None:
    """Import modules for the behaviours they register. Raises BadStubPolicy (Invalid) naming the module."""
    for module in modules:
        try:
            importlib.import_module(module)
        except AgentOSError:
            raise
        except Exception as error:
            raise BadStubPolicy(
                f"module '{module}' cannot be imported: {type(error).__name__}: {error}", then="Mend the module."
            ) from error


def known_behaviours() -> list[str]:
    """The names that a model policy may use in this process."""
    return sorted(_behaviours)


def check_policy(options: Mapping[str, Any]) -> None:
    """Accept a stub's model policy, or raise BadStubPolicy (Invalid) with the place and what to do."""
    given = [name for name in ("script", "behaviour") if name in options]
    if len(given) != 1:
        raise BadStubPolicy(
            "a stub needs either a script or a behaviour" + (", not both" if given else ""),
            then="Write script: [{text: …}] or behaviour: NAME under model.",
        )
    if given == ["behaviour"]:
        _find(options["behaviour"])
        return
    for number, step in enumerate(_script(options)):
        _check_step(step, f"script[{number}]")


class Stub:
    """The stub. It answers at once and leaves the process for nothing."""

    provider: str = "stub"
    instant: bool = True
    local: bool = True

    async def ask(self, question: Question, *, hear: Hear | None = None) -> Answer:
        """Answer by script or behaviour; the same question gets the same answer when the behaviour keeps to that.

        Raises ModelRejectedRequest (Invalid) past the script's end and for an unknown behaviour, ModelMisbehaved (Bug)
        when a behaviour raises or returns no answer, ModelUnavailable when an async one takes too long.
        """
        if "behaviour" in question.options:
            said = await _behave(_find(question.options["behaviour"]), question)
        elif "script" in question.options:
            said = _scripted(question)
        else:
            said = {"text": stand_in(question)}
        turn = sum(message.role == "assistant" for message in question.messages)
        answer = said if isinstance(said, Answer) else _answer(said, turn)
        estimate = Usage(
            input=_tokens((question.system, question.tools, [_read(message) for message in question.messages])),
            output=_tokens((answer.text, answer.calls)),
        )
        if hear is not None and answer.text:
            hear(answer.text)
        return replace(answer, provider="stub", model=question.model, usage=estimate)

    async def close(self) -> None:
        """Nothing to give back."""


def _find(name: Any) -> Behaviour:
    found = _behaviours.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(known_behaviours()) or "none"
        raise BadStubPolicy(
            f"there is no stub behaviour '{str(name)[:64]}'; loaded are: {known}",
            then="Check the spelling, or name its module in AGENTOS_SKILLS.",
        )
    return found


def _script(options: Mapping[str, Any]) -> list[Any]:
    script = options.get("script")
    if not isinstance(script, list) or not script:
        raise BadStubPolicy("a script is a list of at least one step", where="script")
    return script


def _check_step(step: Any, where: str) -> None:
    def refuse(what: str, at: str = where) -> BadStubPolicy:
        return BadStubPolicy(what, where=at, then="A step is {text: …} or {calls: [{skill: …, arguments: {…}}]}.")

    if not isinstance(step, Mapping):
        raise refuse("a step is a mapping")
    if strange := sorted(map(str, set(step) - {"text", "calls"})):
        raise refuse(f"a step has no field '{strange[0][:64]}'")
    if not isinstance(step.get("text", ""), str):
        raise refuse("text is a string", f"{where}.text")
    calls = step.get("calls", [])
    if not isinstance(calls, list | tuple):
        raise refuse("calls is a list", f"{where}.calls")
    if "text" not in step and not calls:
        raise refuse("a step says a text or makes calls")
    for number, call in enumerate(calls):
        at = f"{where}.calls[{number}]"
        if not isinstance(call, Mapping) or not set(call) <= {"skill", "arguments"}:
            raise refuse("a call is a skill and its arguments", at)
        if not isinstance(call.get("skill"), str) or not call["skill"]:
            raise refuse("a call names its skill", f"{at}.skill")
        if not isinstance(call.get("arguments", {}), Mapping):
            raise refuse("arguments are a mapping", f"{at}.arguments")


def _scripted(question: Question) -> Mapping[str, Any]:
    script = _script(question.options)
    turn = sum(message.role == "assistant" for message in question.messages)
    if turn >= len(script):
        raise ModelRejectedRequest(
            f"the stub's script has {len(script)} steps and step {turn + 1} was asked for",
            then="End the script with a step that only says a text, or add steps.",
        )
    _check_step(script[turn], f"script[{turn}]")
    step: Mapping[str, Any] = script[turn]
    return step


async def _behave(function: Behaviour, question: Question) -> AnswerLike:
    seconds = question.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds) as limit:
            said = function(question)
            if inspect.isawaitable(said):
                said = await said
    except AgentOSError:
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            raise ModelUnavailable(f"the stub behaviour did not answer within {seconds:g} s") from None
        raise ModelMisbehaved(f"the stub behaviour raised {type(error).__name__}: {str(error)[:300]}") from error
    if isinstance(said, str):
        return {"text": said}
    if not isinstance(said, Answer):
        try:
            _check_step(said, "answer")
        except BadStubPolicy as error:
            raise ModelMisbehaved(f"the stub behaviour gave no answer: {error}") from None
    return said


def _answer(step: Any, turn: int) -> Answer:
    calls = tuple(
        Call(id=f"stub_{turn}_{number}", skill=call["skill"], arguments=dict(call.get("arguments", {})))
        for number, call in enumerate(step.get("calls", ()))
    )
    stop = Stop.CALLS if calls else Stop.END
    return Answer(text=step.get("text", ""), provider="stub", model="", stop=stop, calls=calls)


def _read(message: Message) -> dict[str, Any]:
    """What is counted of a message: what the stub reads of it."""
    read = {"role": message.role, "text": message.text, "calls": message.calls, "results": message.results}
    return read | ({"images": message.images} if message.images else {})


def _tokens(said: object) -> int:
    return -(-len(msgspec.json.encode(said)) // BYTES_PER_TOKEN)
