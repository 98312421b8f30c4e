"""What an answer may stand on: entries of journals, approvals, runs and stops, each said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalStatus
from agentos.control.policy.model import EffectClass
from agentos.control.stops import service as stops
from agentos.control.stops.model import Stop, StopScope
from agentos.evidence.artifacts import content, store
from agentos.evidence.artifacts.model import Filters, Hit, Kind, See
from agentos.evidence.artifacts.questions import Question, Topic
from agentos.evidence.artifacts.store import About
from agentos.evidence.ledger import service as ledger
from agentos.kernel.seals import LedgerKeys
from agentos.kernel.unit_of_work import UnitOfWork

MOST: Final = 50  # entries of each sort
ARTIFACT: Final = "artifact"
QUOTE: Final = 600  # characters of a content that an entry holds
REFUSED: Final = (ApprovalStatus.DENIED, ApprovalStatus.EXPIRED)
_STEPS: Final = "StepsJournaled"
# By which facts the ledger tells of an entry, the one that says the most first.
_FACTS: Final = {
    "effect": (_STEPS,),
    "decision": (_STEPS,),
    ARTIFACT: (_STEPS,),
    "approval": ("ApprovalDecided", "ApprovalExpired", "ApprovalRequested"),
    "run": ("RunEnded", "RunAccepted"),
    "stop": ("StopOrdered",),
}
_BECAME: Final = {
    "ok": "it succeeded",
    "error": "it failed",
    "denied": "it was denied",
    "happened": "a person said that it happened",
    "not_happened": "a person said that it did not happen",
    "sent_again": "no answer came, and it was sent again",
    None: "whether it happened is not known yet",
}
_FELL_AWAY: Final = {  # why nobody needs to answer a question any more
    "superseded": "another one took its place",
    "policy": "policy asks nobody any more",
    "run_ended": "the run is over",
}
_DID: Final = {
    Kind.INPUT: "was given",
    Kind.READ: "read",
    Kind.EFFECT: "sent",
    Kind.RESULT: "was told",
    Kind.REFUSAL: "was refused",
    Kind.DRAFT: "drafted",
    Kind.MESSAGE: "was told by people",
    Kind.ANSWER: "said",
    Kind.OUTPUT: "made",
}

Look = Callable[[Any], Awaitable[Any]]  # a text of ours as the one who asks may see it


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, and where it is written down."""

    sort: str  # effect | approval | run | decision | stop | artifact
    at: datetime
    sentence: str  # ours; what was said by others is only in the quote
    run_id: str = ""
    step: str = ""
    seq: int | None = None
    approval_id: str = ""
    stop_id: str = ""
    digest: str = ""
    quote: str = ""
    names: frozenset[str] = frozenset()  # of people, agents and skills that it is about

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same entry."""
        return (self.sort, self.run_id, str(self.seq), self.approval_id, self.stop_id)

    def mentions(self, words: Iterable[str]) -> bool:
        """Whether it says any of the words, in whatever form: "refunds" is said by "refund", "hr" not by "three"."""
        said = f"{self.sentence} {self.quote}".casefold()
        return any(re.search(_form(one), said) for one in words)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What there is of what a question asks for, oldest first, each once."""

    entries: tuple[Entry, ...] = ()
    cut: tuple[str, ...] = ()  # sorts of which there are more than the newest MOST, or the best hits, that are here
    not_by_likeness: str = ""  # why contents were looked for by their words alone


async def gathered(
    work: UnitOfWork, question: Question, agents: tuple[str, ...], hits: Iterable[Hit], *, see: See, look: Look
) -> Gathered:
    """What there is of what a question asks for, as the one who asks may see it."""
    window, topics = question.window, question.topics
    about = About(agents, question.of("run"), window.since, window.until)
    found: list[Entry] = []
    cut: list[str] = []

    def newest(sort: str, rows: Sequence[Any]) -> Sequence[Any]:
        if len(rows) > MOST:
            cut.append(sort)
        return rows[:MOST]

    asked = question.of("apr")
    # A question that names only approvals and stops is about these and the runs that asked, not about everything.
    named = bool(asked or question.of("stop")) and not (agents or about.runs)
    if asked or (not named and (Topic.APPROVALS in topics or "denied" in question.statuses)):
        ended = () if asked or Topic.APPROVALS in topics else REFUSED
        for approval_id in newest("approval", await store.asked(work, about, asked, ended, MOST + 1)):
            found += await _approval(work, approval_id, look)
    if named:
        about = replace(about, runs=tuple({one.run_id for one in found}))
    if not named or about.runs:
        if Topic.EFFECTS in topics or (Topic.APPROVALS in topics and not asked):
            rows = newest("effect", await store.sent(work, about, asked, MOST + 1))
            found += await _effects(work, rows, see, with_consent=Topic.APPROVALS in topics)
        if (
            Topic.RUNS in topics
            or (question.of("run") and not topics)
            or (agents and not topics and not question.words)
        ):
            found += [_run(row) for row in newest("run", await store.runs(work, about, question.statuses, MOST + 1))]
        if Topic.DECISIONS in topics:
            rows = await store.decided(work, about, question.statuses, MOST + 1)
            found += [_decision(row) for row in newest("decision", rows)]
    if (Topic.STOPS in topics and not named) or question.of("stop"):
        for one in newest("stop", await _stops(work, question, agents)):
            found.append(await _stop(one, look))
    found += [_artifact(one) for one in hits]
    once = {one.key: one for one in reversed(found)}
    return Gathered(tuple(sorted(once.values(), key=lambda one: (one.at, one.key))), tuple(cut))


async def ledger_numbers(
    work: UnitOfWork, keys: LedgerKeys | None, entries: Iterable[Entry]
) -> dict[tuple[str, ...], int]:
    """The entry of the ledger that stands for each, by its key; without those of which it has none, or none yet."""
    wanted = list(entries)
    names = sorted({name for one in wanted for name in _FACTS.get(one.sort, ())})
    ids = sorted({one.stop_id or one.run_id for one in wanted})
    steps: dict[tuple[str, int], int] = {}
    others: dict[tuple[str, str], int] = {}
    for number, name, key, body in await ledger.about(work, keys, names, ids) if names else ():
        said = msgspec.json.decode(body)
        for step in said.get("steps", ()):
            steps.setdefault((key, step["seq"]), number)
        others.setdefault((name, said.get("approval_id", key)), number)
    found: dict[tuple[str, ...], int] = {}
    for one in wanted:
        for name in _FACTS.get(one.sort, ()):
            subject = {"approval": one.approval_id, "stop": one.stop_id}.get(one.sort, one.run_id)
            told = steps.get((subject, one.seq or 0)) if name == _STEPS else others.get((name, subject))
            if told is not None:
                found.setdefault(one.key, told)
    return found


async def _effects(work: UnitOfWork, rows: Sequence[Any], see: See, *, with_consent: bool) -> list[Entry]:
    stored = await store.stored(work, sorted({row.digest for row in rows if row.digest}), Filters(kind=Kind.EFFECT))
    quotes = {digest: _cut(content.text_of(one.use.kind, await see(one))) for digest, one in stored.items()}
    found = []
    for row in rows:
        step = row.key.partition("~")[0]
        consent = ""
        if with_consent and not row.approval_id:
            consent = f"; nobody was asked, the rule '{row.code}' allowed it" if row.code else ""
        said = (
            f"{row.agent_id} called {row.name} ({EffectClass(row.effect).name}) at {written(row.at)} "
            f"in {row.run_id}, step {step}: {_BECAME.get(row.became, f'it became {row.became}')}{consent}."
        )
        found.append(
            Entry(
                "effect",
                row.at,
                said,
                row.run_id,
                step,
                row.seq,
                approval_id=row.approval_id or "",
                digest=row.digest or "",
                quote=quotes.get(row.digest, ""),
                names=frozenset((row.agent_id, row.name)),
            )
        )
    return found


async def _approval(work: UnitOfWork, approval_id: str, look: Look) -> list[Entry]:
    one = await approvals.get(work, approval_id)
    answers = await approvals.answers(work, approval_id)
    what = f"{one.skill} of {one.agent_id} in {one.run_id}, step {one.step} ({one.id})"
    people = {answer.handle for answer in answers} | {one.decided_by} - {""}
    if one.status is ApprovalStatus.PENDING:
        said = f"Nobody has decided on {what} yet; it was asked at {written(one.asked_at)}."
    elif one.status is ApprovalStatus.EXPIRED:
        ended = written(one.decided_at or one.expires_at)
        if one.reason in _FELL_AWAY:
            said = f"The question about {what} fell away at {ended}: {_FELL_AWAY[one.reason]}."
        else:
            said = f"{'Too few' if answers else 'Nobody'} answered about {what} in time; it expired at {ended}."
    else:
        verb = "approved" if one.status is ApprovalStatus.APPROVED else "denied"
        agreeing = [answer.handle for answer in answers if answer.approved is (verb == "approved")]
        who = " and ".join(dict.fromkeys(agreeing)) or one.decided_by or "somebody"
        said = f"{who} {verb} {what} at {written(one.decided_at or one.asked_at)}."
    notes = [f"{answer.handle}: {answer.note}" for answer in answers if answer.note]
    return [
        Entry(
            "approval",
            one.decided_at or one.asked_at,
            said,
            one.run_id,
            one.step,
            approval_id=one.id,
            quote=_cut(await look("\n".join(notes))) if notes else "",
            names=frozenset({*people, one.agent_id, one.skill}),
        )
    ]


def _run(row: Any) -> Entry:
    over = f"ended at {written(row.ended_at)}" if row.ended_at else "is not over"
    code = f" with {row.code}" if row.code else ""
    return Entry(
        "run",
        row.ended_at or row.accepted_at,
        f"{row.id} of {row.agent_id}, asked for by {row.requested_by} at {written(row.accepted_at)} "
        f"on version {row.version[:19]}, is {row.status}{code} and {over}.",
        row.id,
        names=frozenset((row.agent_id, row.requested_by)),
    )


def _decision(row: Any) -> Entry:
    step = row.key.partition("~")[0].partition("!")[0]
    became = "allowed" if row.phase == "intent" or row.status in ("ok", "error") else row.status
    return Entry(
        "decision",
        row.at,
        f"{row.name} of {row.agent_id} in {row.run_id}, step {step}, was {became} at {written(row.at)} "
        f"at tier {row.tier or 'unknown'} by '{row.code}': {row.rule}.",
        row.run_id,
        step,
        row.seq,
        names=frozenset((row.agent_id, row.name)),
    )


async def _stops(work: UnitOfWork, question: Question, agents: tuple[str, ...]) -> list[Stop]:
    window, named = question.window, question.of("stop")
    found: list[Stop] = []
    before = ""
    while len(found) <= MOST:
        listed = await stops.listed(work, kind="", scope="", in_force=False, before=before, most=4 * MOST)
        for one in listed:
            in_time = one.ordered_at < window.until and (one.lifted_at is None or one.lifted_at >= window.since)
            if one.id in named if named else in_time and _concerns(one, agents):
                found.append(one)
        if len(listed) < 4 * MOST:
            break
        before = listed[-1].id
    return found


def _concerns(one: Stop, agents: tuple[str, ...]) -> bool:
    return not agents or one.scope is not StopScope.AGENT or one.target in agents


async def _stop(one: Stop, look: Look) -> Entry:
    about = f"the {one.scope.value}" + (f" {one.target}" if one.target else "")
    lifted = f"was lifted by {one.lifted_by} at {written(one.lifted_at)}" if one.lifted_at else "is still in force"
    return Entry(
        "stop",
        one.ordered_at,
        f"{one.ordered_by} ordered a {one.kind.value} of {about} at {written(one.ordered_at)} ({one.id}); it {lifted}.",
        stop_id=one.id,
        quote=_cut(str(await look(one.reason))) if one.reason else "",
        names=frozenset(name for name in (one.ordered_by, one.lifted_by, one.target) if name),
    )


def _artifact(hit: Hit) -> Entry:
    use = hit.use
    through = f" through {use.name}" if use.name and use.kind is not Kind.ANSWER else ""
    return Entry(
        ARTIFACT,
        use.at,
        f"{use.agent_id} {_DID[use.kind]}{through} what is quoted, at {written(use.at)} in {use.run_id}, "
        f"step {use.step}.",
        use.run_id,
        use.step,
        use.seq,
        approval_id=use.approval_id or "",
        digest=use.digest,
        quote=_cut(hit.text),
        names=frozenset(name for name in (use.agent_id, use.name) if name),
    )


def _form(word: str) -> str:
    """What begins as the word does, but for its last two letters; of short words just they."""
    begins = re.escape(word[: max(4, len(word) - 2)])
    return rf"(?<![^\W_]){begins}" + (r"(?![^\W_])" if len(word) < 4 else "")


def written(at: datetime) -> str:
    """A moment as sentences say it: to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cut(text: str) -> str:
    return text if len(text) <= QUOTE else text[:QUOTE] + " …"
