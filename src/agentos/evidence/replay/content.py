"""What a run was about, as one document, and its hash: the same in every process, whenever and wherever it ran.

The table below is the only place that says what counts. Rows of the journal become steps, in the order in which the
agent took them; a step's fields are hashed, or compared only, or left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from agentos.kernel.canonical import EXACT, NotCanonical, canonical_parsed, digest_bytes
from agentos.runtime.runs.journal import Entry

FORMAT: Final = 1  # of the document that is hashed; another form of it is another number and so another hash


class Kind(StrEnum):
    """What sets two runs apart."""

    TEXT = "text"  # what the model or the run said
    TOOL = "tool"  # which skill was called, and what came of it
    ARGUMENTS = "arguments"  # what it was called with, or what the run was given
    ORDER = "order"  # another step, one more or one less, or another end
    RETRY = "retry"  # how often a call was sent, or how the end of one was settled
    POLICY = "policy"  # what policy or people said of a call
    COST = "cost"  # tokens and money, where a what-if asks a model anew; a replay takes what was recorded


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a run, of what people wrote to it (``message``), of a model's answer or of a skill call."""

    of: str  # run | message | answer | call
    name: str
    kind: Kind
    words: str
    hashed: bool = True  # else it is compared only


# In this order differences are looked for within a step.
PARTS: Final[tuple[Part, ...]] = (
    Part("run", "version", Kind.ORDER, "the hash of the agent's version"),
    Part("run", "input", Kind.ARGUMENTS, "what the run was given"),
    Part("message", "texts", Kind.ARGUMENTS, "what people wrote to the run before the model was asked next"),
    Part("answer", "text", Kind.TEXT, "what the model said"),
    Part("answer", "calls", Kind.TOOL, "the skills that it wanted called, in their order"),
    Part("answer", "arguments", Kind.ARGUMENTS, "what it wanted each called with"),
    Part("answer", "stop", Kind.TEXT, "why it stopped: end, calls, limit, refusal"),
    Part("answer", "provider", Kind.TEXT, "who answered; a stub says so"),
    Part("answer", "model", Kind.TEXT, "the model's name, as the provider gave it"),
    Part("answer", "tokens", Kind.COST, "tokens in and out, as the provider counted them", hashed=False),
    Part("answer", "micros", Kind.COST, "what it cost, in millionths of a dollar", hashed=False),
    Part("call", "skill", Kind.TOOL, "the skill's name"),
    Part("call", "version", Kind.TOOL, "the skill's version"),
    Part("call", "arguments", Kind.ARGUMENTS, "the SHA-256 of the arguments in their canonical form"),
    Part("call", "verdict", Kind.POLICY, "what policy said: allow, draft, ask, deny; none where it was not asked"),
    Part("call", "rule", Kind.POLICY, "the code of the rule that is cited"),
    Part("call", "tier", Kind.POLICY, "the autonomy tier that it was decided at"),
    Part("call", "asks", Kind.POLICY, "what became of each question to people: approved, denied, expired, withdrawn"),
    Part("call", "settled", Kind.RETRY, "who said whether it happened, where its own answer was lost"),
    Part("call", "sends", Kind.RETRY, "how often an effect was sent", hashed=False),
    Part("call", "status", Kind.TOOL, "what came of it: ok, error, denied, drafted; unknown where the run ended first"),
    Part("call", "result", Kind.TOOL, "what the agent was told; of a draft only that it is one"),
    Part("run", "status", Kind.ORDER, "how the run ended"),
    Part("run", "code", Kind.ORDER, "the code of the problem that it ended in"),
    Part("run", "output", Kind.TEXT, "what it made"),
)

# What the hash does not know, and why.
LEFT_OUT: Final[dict[str, str]] = {
    "times and durations": "when and how fast a run was says nothing about what it did",
    "ids": "of runs, requests, approvals, drafts, stops, and of a model's calls: each is made anew",
    "segments, attempts, tokens of ownership": "where a run was executed, and who took it over",
    "tries": "failed reads that were tried again, attempts at other providers, sends of one effect",
    "the policy's hash and reasons": "they name documents and stops; verdict and rule are what they came to",
    "positions in the journal": "reads that stand side by side end in any order; steps are in the agent's order",
    "stops, pauses, waits": "they put off what a run does, and change it only through a verdict",
    "key order, form of numbers": "1.0 and 1 are one number, and an object's keys have no order (RFC 8785)",
}

_BY_KIND: Final = {of: tuple(part for part in PARTS if part.of == of) for of in ("run", "message", "answer", "call")}
_HASHED: Final = {of: tuple(part.name for part in parts if part.hashed) for of, parts in _BY_KIND.items()}
_END: Final = ("status", "code", "output")
_BASE: Final = re.compile(r"(?:t(?P<turn>\d+)(?:\.(?:c(?P<call>\d+)|(?P<said>said)))?|d)")


@dataclass(frozen=True)
class Step:
    """What people wrote, one answer of the model, or one call."""

    key: str
    of: str  # message | answer | call
    fields: dict[str, Any]

    @cached_property
    def form(self) -> bytes:
        """What is hashed of it, in its canonical form."""
        return _form({"step": self.key} | {name: self.fields[name] for name in _HASHED[self.of]})


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two runs part first."""

    step: str  # the step's key; "run" for what is the run's own
    field: str
    kind: Kind
    recorded: Any
    found: Any

    def document(self) -> dict[str, Any]:
        """The divergence as it is shown: contents are cut, they stand in the journal."""
        return {
            "step": self.step,
            "field": self.field,
            "class": self.kind.value,
            "recorded": _short(self.recorded),
            "found": _short(self.found),
        }


@dataclass(frozen=True)
class Content:
    """What a run was about."""

    version: str
    input: Any
    steps: tuple[Step, ...]
    status: str
    code: str
    output: Any
    tokens: int = field(default=0, compare=False)
    micros: int = field(default=0, compare=False)

    def content_hash(self) -> str:
        """``sha256:…`` of what counts, in its RFC 8785 form: {end, format, input, steps, version}."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        end = _form({name: getattr(self, name) for name in _END})
        steps = b",".join(one.form for one in self.steps)
        form = b'{"end":%b,"format":%d,"input":%b,"steps":[%b],"version":%b}'
        return digest_bytes(form % (end, FORMAT, _form(self.input), steps, _form(self.version)))

    def differs(
        self, found: Content, *, besides: Collection[tuple[str, str]] = (), whole: bool = True
    ) -> Divergence | None:
        """Where another run parts from this one first. ``besides``: (of, name) of fields that may differ.

        ``whole``: the other one has come to its end; else only the steps that it has come to are looked at.
        """
        for name, kind in (("version", Kind.ORDER), ("input", Kind.ARGUMENTS)):
            if ("run", name) not in besides and not _same(getattr(self, name), getattr(found, name)):
                return Divergence("run", name, kind, getattr(self, name), getattr(found, name))
        for mine, theirs in zip(self.steps, found.steps, strict=False):
            if mine is theirs:
                continue
            if mine.key != theirs.key:
                return Divergence(mine.key, "step", Kind.ORDER, mine.key, theirs.key)
            for part in _BY_KIND[mine.of]:
                was, now = mine.fields[part.name], theirs.fields[part.name]
                if (part.of, part.name) not in besides and not _same(was, now):
                    return Divergence(mine.key, part.name, part.kind, was, now)
        if not whole:
            return None
        if len(self.steps) != len(found.steps):
            at = min(len(self.steps), len(found.steps))
            was, now = (some[at].key if at < len(some) else None for some in (self.steps, found.steps))
            return Divergence(str(was or now), "step", Kind.ORDER, was, now)
        for name, kind in (("status", Kind.ORDER), ("code", Kind.ORDER), ("output", Kind.TEXT)):
            if not _same(getattr(self, name), getattr(found, name)):
                return Divergence("run", name, kind, getattr(self, name), getattr(found, name))
        return None


def content_of(
    rows: Iterable[Entry],
    *,
    version: str,
    given: Any,
    status: str,
    problem: Mapping[str, Any] | None,
    output: Any,
    known: Mapping[int, Step] | None = None,
) -> Content:
    """The content of a run by the rows of its journal and its end. ``known``: steps of answers, by their row's id()."""
    groups: dict[str, list[Entry]] = {}
    for row in rows:
        key = base_of(row.key)
        if key is not None:
            groups.setdefault(key, []).append(row)
    steps = []
    tokens = micros = 0
    for key in sorted(groups, key=_place):
        some = groups[key]
        answer = next((row for row in some if row.kind == "model"), None)
        if answer is not None:
            step = (known or {}).get(id(answer)) or _answer(key, answer)
            tokens += sum(one or 0 for one in step.fields["tokens"])
            micros += step.fields["micros"] or 0
            steps.append(step)
        elif some[0].kind == "message":
            steps.append(Step(key, "message", {"texts": some[0].content}))
        elif any(row.kind in ("skill", "ask", "draft") for row in some):
            steps.append(_call(key, some))
    code = str((problem or {}).get("code", ""))
    return Content(version, given, tuple(steps), status, code, output, tokens, micros)


def base_of(key: str) -> str | None:
    """The step that a row belongs to: ``t1.c0`` of ``t1.c0~2!settled``. None for what is no step of the agent's."""
    found = _BASE.match(key)
    if found is None or (len(key) > found.end() and key[found.end()] not in "~!"):
        return None
    return found[0]


def _place(key: str) -> tuple[int, int]:
    found = _BASE.fullmatch(key)
    assert found is not None
    if found["turn"] is None:
        return (-1, 0)
    within = -2 if found["said"] else -1 if found["call"] is None else int(found["call"])
    return (int(found["turn"]), within)


def _answer(key: str, row: Entry) -> Step:
    said = row.content or {}
    usage, calls = said.get("usage") or {}, said.get("calls") or ()
    fields = {
        "text": said.get("text", ""),
        "calls": [one["skill"] for one in calls],
        "arguments": [one["arguments"] for one in calls],
        "stop": said.get("stop", "end"),
        "provider": said.get("provider", ""),
        "model": said.get("model", ""),
        "tokens": [usage.get("input"), usage.get("output")],
        "micros": (row.meta.get("cost") or {}).get("micros"),
    }
    return Step(key, "answer", fields)


def _call(key: str, rows: Sequence[Entry]) -> Step:
    intents = [row for row in rows if row.phase == "intent"]
    asks = [row for row in rows if row.kind == "ask"]
    words = [row for row in rows if row.kind == "note" and row.key.endswith("!settled")]
    result = next((row for row in rows if row.phase == "result" and row.key == key), None)
    last = result or (intents or asks or rows)[-1]
    decided = decision_row(rows)
    meta = {} if decided is None else decided.meta
    status = "unknown" if result is None else result.status
    settled: Any = None if result is None else result.meta.get("source")
    if words:
        settled = [f"{word.status} by {word.meta.get('by', 'person')}" for word in words]
    told = None if result is None else result.content
    fields = {
        "skill": last.name,
        "version": str(last.meta.get("version", "")),
        "arguments": last.meta.get("arguments_digest"),
        "verdict": None if decided is None else verdict_of(decided),
        "rule": meta.get("decision"),
        "tier": meta.get("tier"),
        "asks": [_became(ask, asks, intents, result) for ask in asks],
        "settled": settled,
        "sends": len(intents),
        "status": status,
        "result": {"message": (told or {}).get("message")} if status == "drafted" else told,
    }
    return Step(key, "call", fields)


def decision_row(rows: Sequence[Entry]) -> Entry | None:
    """The row that tells what policy said of a call in the end. None: policy was not asked."""
    told = [row for row in rows if "decision" in row.meta]
    results = [row for row in told if row.phase == "result" and row.kind != "ask"]
    found = results or [row for row in told if row.phase == "intent"] or told
    return found[-1] if found else None


def verdict_of(decided: Entry) -> str:
    """What a row says that policy said. ``ask`` stands for ``ask_two``, too, as rows do not tell them apart."""
    if decided.kind == "ask" or "approval" in decided.meta:
        return "ask"
    if decided.phase == "result" and decided.status in ("denied", "drafted"):
        late = decided.status == "drafted" and decided.meta.get("decision") == "approval_expired"
        return "ask" if late else {"denied": "deny", "drafted": "draft"}[decided.status]
    return "allow"


def _became(ask: Entry, asks: Sequence[Entry], intents: Sequence[Entry], result: Entry | None) -> str:
    named = ask.meta.get("approval")
    if any(one.meta.get("approval") == named for one in intents):
        return "approved"
    if result is not None and ask is asks[-1]:
        if result.meta.get("approval") == named:
            return str((result.content or {}).get("code", "")).removeprefix("approval_")
        if result.meta.get("decision") == "approval_expired":
            return "expired"
    return "open" if result is None and not intents and ask is asks[-1] else "withdrawn"


def _same(was: Any, now: Any) -> bool:
    """Whether two values have one canonical form. Python's own equality takes True for 1."""
    if was is now:
        return True
    if isinstance(was, bool) or isinstance(now, bool):
        return False
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(_same(value, now[name]) for name, value in was.items())
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_same, was, now))
    return bool(was == now)


def _form(value: Any) -> bytes:
    try:
        return canonical_parsed(value)
    except NotCanonical:  # whole numbers beyond 2^53, which skills may give back
        return canonical_parsed(_exact(value))


def _exact(value: Any) -> Any:
    """The value with numbers that RFC 8785 has no form for as text, marked so that no text is taken for one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) >= EXACT:
        return {"$number": repr(value)}
    if isinstance(value, Mapping):
        return {str(name): _exact(one) for name, one in value.items()}
    return [_exact(one) for one in value] if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else None
    if text is None and isinstance(value, (dict, list)):
        text = repr(value)
    return value if text is None or len(text) <= 200 else text[:200] + "…"
