"""The HTTP door to what runs produced and read. Nothing that is asked here changes anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agentos.control.privacy import service as privacy_service
from agentos.control.privacy.model import Counts
from agentos.control.privacy.routes import PrivacyDep, SightDep
from agentos.control.privacy.routes import Sight as Seeing
from agentos.evidence.artifacts import service
from agentos.evidence.artifacts.answers import UNKNOWN
from agentos.evidence.artifacts.entries import Entry
from agentos.evidence.artifacts.model import (
    EVER,
    FOREVER,
    Artifact,
    Filters,
    Found,
    Hit,
    Kind,
    See,
    Stored,
    Use,
)
from agentos.evidence.artifacts.questions import MOST_QUESTION, Window
from agentos.evidence.artifacts.search import BOUND, MOST_WORDS
from agentos.evidence.artifacts.service import Asked, Evidence, Reply, Sight
from agentos.intake.identity.model import NotAllowed, Permission
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import elapsed, now
from agentos.kernel.errors import AgentOSError
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, page, position_of
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import EVIDENCE_SEARCHES, EVIDENCE_SECONDS
from agentos.runtime.gateway.model import Asker
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.ports import Parts
from agentos.runtime.runs.routes import PartsDep, seen_step

router = APIRouter(prefix="/api/v1/agents/evidence", tags=["evidence"])

Name = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9_-]*$", description="An agent's id.")]
RunFilter = Annotated[str, Query(max_length=64, pattern=r"^[a-z0-9_]*$", description="A run's id.")]
KindFilter = Annotated[Kind | None, Query(description="What it was to the run.")]
Since = Annotated[AwareDatetime | None, Query(description="Not before then.")]
Until = Annotated[AwareDatetime | None, Query(description="Before then.")]
Digest = Annotated[str, Path(max_length=100, description="sha256: and the hash of its bytes.")]


class Ask(BaseModel):
    """A question about what agents did."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(min_length=1, max_length=MOST_QUESTION)
    zone: str = Field("UTC", max_length=60, description="The time zone of words such as yesterday, as Europe/Berlin.")
    extract: bool = Field(False, description="Ask no model, also where one is set.")


async def evidence(request: Request) -> Evidence:
    """What this process holds for evidence."""
    found: Evidence = request.app.state.evidence
    return found


EvidenceDep = Annotated[Evidence, Depends(evidence)]


@router.get("/search")
async def search_evidence(
    caller: Reader,
    held: EvidenceDep,
    parts: PartsDep,
    sight: SightDep,
    q: Annotated[
        str, Query(min_length=1, max_length=MOST_WORDS, description='Words; also "a phrase", or, and -without.')
    ],
    agent: Name = "",
    run: RunFilter = "",
    kind: KindFilter = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Query(ge=1, le=50, description="How many artifacts at most.")] = 10,
) -> dict[str, Any]:
    """Artifacts that hold the words, or are like them, the best first. What is kept from the caller finds nothing."""
    await _may_ask(sight, q, "q")
    filters = Filters(agent, run, kind.value if kind else "", since or EVER, until or FOREVER)
    measured = _Measured(parts.meter, caller.organization, "search")
    with measured:
        found = await held.search(
            caller.organization, q, filters, most=limit, see=_see(parts, sight), masks=sight.masks, corrects=True
        )
        measured.outcome = "found" if found.hits else "nothing"
    return _found(q, found)


@router.post("/ask")
async def ask_evidence(
    body: Ask,
    request: Request,
    caller: Reader,
    held: EvidenceDep,
    parts: PartsDep,
    doors: DoorsDep,
    privacy: PrivacyDep,
    sight: SightDep,
) -> dict[str, Any]:
    """Answer a question about what agents did, every sentence with the entries that it stands on, or say 'unknown'.

    A model is asked only where one is set and the caller may ask models; it is told no personal data.
    """
    await _may_ask(sight, body.question, "question")
    async with doors.open(caller.organization) as work:
        rules = await privacy_service.rules_of(work, privacy)
    masking = Seeing(privacy, rules, Counts())
    asked = Asked(
        body.question,
        Asker(caller.organization, caller.handle, request.state.request_id),
        body.zone,
        model=not body.extract and Permission.ASK_MODELS in caller.permissions,
    )
    measured = _Measured(parts.meter, caller.organization, "ask")
    with measured:
        mine, nobodys = (Sight(_see(parts, one), one.of, one.masks) for one in (sight, masking))
        reply = await held.ask(asked, mine, nobodys, at=now())
        measured.outcome = "found" if reply.known else UNKNOWN
    return _reply(reply)


@router.get("/artifacts")
async def list_artifacts(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    agent: Name = "",
    run: RunFilter = "",
    kind: KindFilter = None,
    since: Since = None,
    until: Until = None,
) -> dict[str, Any]:
    """What runs produced and read, newest first: where each artifact was used."""
    filters = Filters(agent, run, kind.value if kind else "", since or EVER, until or FOREVER)
    async with doors.open(caller.organization) as work:
        found = await service.listed(work, filters, before=_before(cursor), most=limit + 1)
    rows = page(
        [_artifact(artifact) | _use(use) | {"position": _position(use)} for use, artifact in found],
        limit,
        by="position",
    )
    for row in rows["items"]:
        del row["position"]
    return rows


@router.get("/artifacts/{digest}")
async def show_artifact(
    digest: Digest, caller: Reader, doors: DoorsDep, parts: PartsDep, sight: SightDep
) -> dict[str, Any]:
    """An artifact: where it was used, newest first, and what it holds; null where its content is no longer kept."""
    async with doors.open(caller.organization) as work:
        artifact, uses, stored = await service.get(work, digest)
    content = None if stored is None else await _see(parts, sight)(stored)
    return _artifact(artifact) | {"uses": [_use(one) for one in uses], "content": content}


async def _may_ask(sight: Seeing, words: str, where: str) -> None:
    """Raises NotAllowed where these words are personal data that is kept from the caller."""
    if await sight.of(words) != words:
        raise NotAllowed(
            "looking for personal data takes the permission to see it", where=where, then="Leave it out of the search."
        )


class _Measured:
    """Counts and times one search, also one that ends in an error."""

    def __init__(self, meter: Meter, organization: str, kind: str) -> None:
        self.outcome = ""
        self._meter, self._organization, self._kind = meter, organization, kind
        self._began = elapsed()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        outcome = self.outcome or (error.code if isinstance(error, AgentOSError) else "bug")
        self._meter.count(EVIDENCE_SEARCHES, org=self._organization, kind=self._kind, outcome=outcome)
        self._meter.observe(EVIDENCE_SECONDS, elapsed() - self._began, kind=self._kind)


def _see(parts: Parts, sight: Seeing) -> See:
    """What of a content this caller may see, by the schemas of the skill or the version that it is of."""

    async def see(stored: Stored) -> Any:
        if not sight.masks:
            return stored.value
        if stored.use.kind in (Kind.INPUT, Kind.OUTPUT):
            async with parts.doors.open(OrgId(stored.organization)) as work:
                run = await runs.get(work, stored.use.run_id)
            definition = (await runs.version_of(parts, run)).definition
            is_input = stored.use.kind is Kind.INPUT
            return await sight.of(stored.value, definition.input_schema if is_input else definition.output_schema)
        return (await seen_step(stored.row, parts, sight))["content"]

    return see


def _before(cursor: str) -> tuple[datetime, str, int] | None:
    said = position_of(cursor)
    if not said:
        return None
    try:
        at, run_id, seq = said.split(" ")
        return datetime.fromisoformat(at).astimezone(UTC), run_id, max(-1, min(int(seq), 2**31 - 1))
    except (ValueError, OverflowError):
        raise BadCursor("this cursor was not given out by a listing", then="Start again without a cursor.") from None


def _position(use: Use) -> str:
    return f"{use.at.astimezone(UTC).isoformat()} {use.run_id} {use.seq}"


def _artifact(one: Artifact) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "media_type": one.media_type,
        "size": one.size,
        "characters": one.characters,
        "searched": one.searched,
    }


def _use(one: Use) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "step": one.step,
        "seq": one.seq if one.seq > 0 else None,
        "kind": one.kind.value,
        "name": one.name or None,
        "effect": None if one.effect is None else f"S{one.effect}",
        "status": one.status,
        "approval_id": one.approval_id,
        "agent_id": one.agent_id,
        "category": one.category,
        "deployment_id": one.deployment_id,
        "version": one.version,
        "at": one.at,
    }


def _found(q: str, found: Found) -> dict[str, Any]:
    return {
        "query": q,
        "items": [_hit(one) for one in found.hits],
        "searched": {
            "embedder": found.embedder,
            "likeness": "unknown" if found.not_by_likeness else f"the newest {BOUND} uses",
            "because": found.not_by_likeness or None,
            "spelt": dict(found.spelt),
        },
    }


def _hit(one: Hit) -> dict[str, Any]:
    likeness = None if one.likeness is None else round(one.likeness, 4)
    return (
        _artifact(one.artifact)
        | _use(one.use)
        | {"snippet": one.snippet, "found_by": list(one.ways), "likeness": likeness}
    )


def _reply(one: Reply) -> dict[str, Any]:
    return {
        "question": one.question.text,
        "answer": " ".join(sentence.text for sentence in one.sentences) if one.known else UNKNOWN,
        "sentences": [
            {"text": sentence.text, "citations": list(sentence.cites), "quotes": sentence.quotes}
            for sentence in one.sentences
        ],
        "citations": [
            _entry(number, entry) | {"ledger_entry": one.ledger.get(entry.key)} for number, entry in _cited(one)
        ],
        "answered_by": one.answered_by,
        "instead_of": None if not one.instead_of else {"model": one.instead_of, "code": one.because, "why": one.why},
        "dropped": one.dropped,
        "left_out": {
            "entries": one.left_out.entries,
            "sentences": one.left_out.sentences,
            "cut": list(one.left_out.cut),
        },
        "searched": {
            "agents": list(one.agents),
            "unknown_agents": sorted(set(one.question.like_agents) - set(one.agents)),
            "ids": list(one.question.ids),
            **_window(one.question.window),
            "topics": sorted(one.question.topics),
            "words": list(one.question.words),
            "entries": len(one.entries),
            "because": one.not_by_likeness or None,
        },
    }


def _window(one: Window) -> dict[str, Any]:
    named = bool(one.words)
    return {"since": one.since if named else None, "until": one.until if named else None, "time": one.words or None}


def _cited(one: Reply) -> list[tuple[int, Entry]]:
    numbers = sorted({number for sentence in one.sentences for number in sentence.cites})
    return [(number, one.entries[number - 1]) for number in numbers]


def _entry(number: int, one: Entry) -> dict[str, Any]:
    return {
        "number": number,
        "sort": one.sort,
        "at": one.at,
        "run_id": one.run_id or None,
        "step": one.step or None,
        "seq": one.seq if one.seq is not None and one.seq > 0 else None,
        "approval_id": one.approval_id or None,
        "stop_id": one.stop_id or None,
        "digest": one.digest or None,
        "record": one.sentence,
        "quote": one.quote or None,
    }
