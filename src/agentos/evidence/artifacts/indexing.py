"""From journals to artifacts: each fact that says a journal has something new lets its new rows be looked through.

    fact → read the rows after the last one that was looked through → embed (no transaction is open) → keep, all at once

Everything is kept under its place, so doing it again changes nothing. Text that could not be embedded is found by its
words meanwhile, and is embedded with one of the organization's next facts; so is everything after another way of making
embeddings was set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentos.control.approvals.model import ApprovalRequested
from agentos.control.privacy import service as privacy
from agentos.control.privacy.service import Privacy
from agentos.control.stops import service as stops
from agentos.control.stops.model import Subject
from agentos.evidence.artifacts import content, store
from agentos.evidence.artifacts.content import Piece
from agentos.evidence.artifacts.model import INPUT, EmbeddingsRefused, EmbeddingsUnavailable, Filters, Use
from agentos.evidence.artifacts.ports import Embeddings
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import LEISURE_SECONDS, Consumer, Delivery
from agentos.kernel.retention import Retention
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import ARTIFACTS, EMBEDDING_ERRORS
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.inference.model import ContentBlocked
from agentos.runtime.runs.model import DraftMade, EffectSettled, EffectUncertain, RunEnded

log = structlog.get_logger(__name__)

NAME: Final = "artifacts"
KEPT: Final = Retention("artifacts_forget", timedelta(days=400))  # a year's questions, and a month to ask them in
WORDS_KEPT: Final = Retention("artifact_vocabulary_forget", KEPT.kept)
ROWS: Final = 200  # of journals that are looked through in one transaction
TOGETHER: Final = 50  # facts: as many runs have some 200 rows
LATE: Final = 64  # passages that are embedded later, with each fact
PROVIDER: Final = "embeddings"  # its name on the emergency denylist
NOBODYS: Final = Subject("", "", "")  # what concerns the organization, everybody, or a provider

Made = tuple[str, list[list[float]]]  # the embedder of an artifact's passages, and a vector of each or none

FACTS: Final = (ApprovalRequested, DraftMade, EffectUncertain, EffectSettled, RunEnded)


class Embedder:
    """What makes embeddings, under an organization's stops and rules of privacy where texts leave the process."""

    def __init__(self, doors: Doors, embeddings: Embeddings, privacy: Privacy, meter: Meter) -> None:
        self.embeddings = embeddings
        self._doors = doors
        self._privacy = privacy
        self._meter = meter

    async def embed(self, organization: OrgId, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text. An endpoint is told no personal data. Raises the kinds of errors that models do."""
        if not texts:
            return []
        try:
            if not self.embeddings.local:
                texts = await self._told(organization, texts)
            return await self.embeddings.embed(texts)
        except AgentOSError as error:
            self._meter.count(EMBEDDING_ERRORS, code=error.code)
            raise

    async def _told(self, organization: OrgId, texts: Sequence[str]) -> list[str]:
        async with self._doors.open(organization) as work:
            found = await stops.in_force(work, NOBODYS)
            rules = await privacy.rules_of(work, self._privacy)
        stop = found.held or found.denies_provider(PROVIDER)
        if stop is not None:
            raise EmbeddingsUnavailable(f"stop {stop.id} withholds it", where=stop.id)
        return [(await privacy.redacted(self._privacy, rules, one, place="prompts"))[0] for one in texts]


class Artifacts:
    """The consumer that keeps artifacts."""

    def __init__(self, doors: Doors, embedder: Embedder, meter: Meter) -> None:
        self._doors = doors
        self._embedder = embedder
        self._meter = meter

    def consumer(self) -> Consumer:
        """Keeps the artifacts of each run that a fact is about. It begins with the first fact there is."""
        return Consumer(NAME, FACTS, self._deliver, together=TOGETHER, pause=LEISURE_SECONDS)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        run_ids = {one.fact.run_id for one in deliveries if isinstance(one.fact, FACTS)}
        await self.take(deliveries[0].organization, sorted(run_ids))

    async def take(self, organization: OrgId, run_ids: Sequence[str]) -> None:
        """Keep what is new of runs. Safe to repeat."""
        left, at = list(run_ids), 0
        while left:
            async with self._doors.open(organization) as work:
                runs = {run.id: run for run in await store.taken(work, left)}
                after = {run.id: run.upto for run in runs.values()}
                if at:  # within the journal of the first
                    after[left[0]] = max(after[left[0]], at)
                rows = await store.rows(work, after, ROWS)
            await self._keep(organization, runs, rows)
            if len(rows) < ROWS:
                break
            at = rows[-1]["seq"]
            left = [one for one in left if one >= rows[-1]["run_id"]]
        await self._late(organization)

    async def _keep(self, organization: OrgId, runs: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        found = [(run, piece, at) for run in runs.values() for piece, at in _ends(run)]
        found += [
            (runs[row["run_id"]], piece, row["at"]) for row in rows if (piece := content.piece_of(row)) is not None
        ]
        pieces = {content.digest_of(piece.data): piece for _, piece, _ in found}
        texts = {digest: content.text_of(one.kind, content.value_of(one.data)) for digest, one in pieces.items()}
        cut = {digest: content.passages(text) for digest, text in texts.items()}
        async with self._doors.open(organization) as work:
            fresh = set(cut) - await store.known(work, list(cut))
        vectors = await self._vectors(organization, {digest: cut[digest] for digest in sorted(fresh)})
        described = {digest: content.described(pieces[digest], text) for digest, text in texts.items()}
        async with self._doors.open(organization) as work:
            for digest in sorted(await store.add(work, list(described.values()))):
                embedder, made = vectors.get(digest, ("", []))
                await store.add_passages(work, digest, cut[digest], embedder, made)
            uses = [_use(run, piece, content.digest_of(piece.data), at) for run, piece, at in found]
            await store.add_uses(work, uses)
        self._meter.count(ARTIFACTS, len(fresh), org=organization)

    async def _vectors(self, organization: OrgId, cut: Mapping[str, list[tuple[int, str]]]) -> dict[str, Made]:
        """Of each artifact by what its passages have vectors, and those; nothing of those that have none now.

        What is refused keeps back no other: each artifact is tried alone then, and is not tried again.
        """
        name = self._embedder.embeddings.name
        try:
            flat = iter(await self._embedder.embed(organization, [text for parts in cut.values() for _, text in parts]))
        except (EmbeddingsRefused, ContentBlocked) as error:
            log.info("not_embedded", code=error.code, what=error.what, artifacts=len(cut))
            if len(cut) == 1:
                return dict.fromkeys(cut, (store.refused(name), []))
            found: dict[str, Made] = {}
            for digest, parts in cut.items():
                found |= await self._vectors(organization, {digest: parts})
            return found
        except AgentOSError as error:
            log.info("not_embedded", code=error.code, what=error.what, artifacts=len(cut))
            return {}
        return {digest: (name, [next(flat) for _ in parts]) for digest, parts in cut.items()}

    async def _late(self, organization: OrgId) -> None:
        """Embed some of what has no vector of the embedder in use."""
        name = self._embedder.embeddings.name
        async with self._doors.open(organization) as work:
            digests = await store.not_embedded(work, name, LATE)
            stored = await store.stored(work, digests, Filters()) if digests else {}
        cut = {
            digest: content.passages(content.text_of(one.use.kind, one.value)) for digest, one in sorted(stored.items())
        }
        vectors = await self._vectors(organization, cut) if cut else {}
        vectors |= {digest: (store.refused(name), []) for digest in digests if digest not in stored}  # content is gone
        if vectors:
            async with self._doors.open(organization) as work:
                for digest, (embedder, made) in vectors.items():
                    await store.embed(work, digest, embedder, made)


def _ends(run: Any) -> Iterator[tuple[Piece, datetime]]:
    output = None if run.output is None else bytes(run.output)
    for piece in content.ends_of(bytes(run.input), output):
        yield piece, run.accepted_at if piece.seq == INPUT else run.ended_at


def _use(run: Any, piece: Piece, digest: str, at: Any) -> Use:
    return Use(
        run_id=run.id,
        seq=piece.seq,
        digest=digest,
        step=piece.step,
        kind=piece.kind,
        name=piece.name,
        effect=piece.effect,
        status=piece.status,
        approval_id=piece.approval_id,
        agent_id=run.agent_id,
        category=run.category,
        deployment_id=run.deployment_id,
        version=run.version,
        at=at,
    )
