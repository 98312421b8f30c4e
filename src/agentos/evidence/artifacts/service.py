"""Find what runs produced and read, and answer questions about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from typing import Final

import structlog

from agentos.evidence.artifacts import answers, asking, entries, store
from agentos.evidence.artifacts import search as searching
from agentos.evidence.artifacts.answers import Sentence
from agentos.evidence.artifacts.asking import Teller
from agentos.evidence.artifacts.entries import Entry, Gathered, Look
from agentos.evidence.artifacts.indexing import Embedder
from agentos.evidence.artifacts.model import Artifact, ArtifactUnknown, Filters, Found, Hit, See, Stored, Use
from agentos.evidence.artifacts.questions import Question, understood
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.runtime.gateway.model import Asker

log = structlog.get_logger(__name__)

MOST_USES: Final = 200  # of one artifact that are told
MOST_HITS: Final = 10  # artifacts that an answer may stand on
EXTRACTION: Final = "extraction"  # who answers where no model does


@dataclass(frozen=True, slots=True)
class Sight:
    """What of contents and of texts the one who asks may see."""

    see: See
    look: Look
    masks: bool  # whether anything is kept from them


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as somebody asks it. ``model``: whether a model may be asked for them."""

    text: str
    asker: Asker
    zone: str = "UTC"
    model: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a limit kept from an answer."""

    entries: int = 0  # that were found, and that no sentence was made of because there are too many
    sentences: int = 0  # that stand on what they cite, and are too many
    cut: tuple[str, ...] = ()  # sorts of entries of which only the newest, or the best, were looked at


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, sentence by sentence, with what it stands on and what was searched for it."""

    question: Question
    agents: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    entries: tuple[Entry, ...]
    dropped: int  # sentences that did not stand on what they cite
    left_out: LeftOut
    answered_by: str  # EXTRACTION, or a model by its name
    instead_of: str = ""  # the model that was to answer
    ledger: Mapping[tuple[str, ...], int] = field(default_factory=dict)  # entries of the ledger, by the key of ours
    because: str = ""  # the code of why it did not
    why: str = ""
    not_by_likeness: str = ""  # why contents were looked for by their words alone; empty: they were not

    @property
    def known(self) -> bool:
        """Whether there is an answer."""
        return bool(self.sentences)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a process holds for evidence."""

    doors: Doors
    embedder: Embedder
    teller: Teller

    async def search(
        self,
        organization: OrgId,
        words: str,
        filters: Filters,
        *,
        most: int,
        see: See,
        masks: bool,
        corrects: bool = False,
    ) -> Found:
        """See ``search.search``."""
        return await searching.search(
            self.doors,
            organization,
            self.embedder,
            words,
            filters,
            most=most,
            see=see,
            masks=masks,
            corrects=corrects,
        )

    async def ask(self, asked: Asked, sight: Sight, hidden: Sight, *, at: datetime) -> Reply:
        """Answer a question from what was found, every sentence with the entries that it stands on; else say nothing.

        A model is given what ``hidden`` shows of it, which is nobody's personal data. Where it does not answer, stands
        behind a stop or a budget, or says nothing that holds, the answer is what is written down itself, and says so.
        Raises BadEvidenceQuery (Invalid), DatabaseUnavailable.
        """
        organization = OrgId(asked.asker.organization)
        question = understood(asked.text, at=at, zone=asked.zone)
        async with self.doors.open(organization) as work:
            agents = await store.agents(work, question.names)
        model, because, why = self.teller.settings.model if asked.model else "", "", ""
        if model:
            try:
                found = await self._found(organization, question, agents, hidden)
                if there := found.entries:
                    text = str(await hidden.look(question.text))
                    said, name = await asking.said(self.teller, asked.asker, text, there, at=at)
                    kept = answers.checked(said, there, question.window.words)
                    if kept.kept:
                        told = await self._in_ledger(organization, kept.kept, there)
                        left = LeftOut(max(0, len(there) - asking.MOST_TOLD), kept.left_out, found.cut)
                        return Reply(
                            question,
                            agents,
                            kept.kept,
                            there,
                            kept.dropped,
                            left,
                            name,
                            ledger=told,
                            not_by_likeness=found.not_by_likeness,
                        )
                    because, why = "no_sentence_stands", f"none of its {len(said)} sentences stands on what it cites"
            except AgentOSError as error:
                because, why = error.code, error.what
                log.info("evidence_not_told_by_model", model=model, code=error.code)
        found = await self._found(organization, question, agents, sight)
        there = found.entries
        kept = answers.checked(answers.extracted(there), there, question.window.words)
        return Reply(
            question,
            agents,
            kept.kept,
            there,
            kept.dropped,
            LeftOut(max(0, len(there) - answers.MOST_SENTENCES), kept.left_out, found.cut),
            EXTRACTION,
            instead_of=model if because else "",
            because=because,
            why=why,
            ledger=await self._in_ledger(organization, kept.kept, there),
            not_by_likeness=found.not_by_likeness,
        )

    async def _in_ledger(
        self, organization: OrgId, said: Sequence[Sentence], found: Sequence[Entry]
    ) -> dict[tuple[str, ...], int]:
        """The ledger's entries beside those that are cited."""
        cited = {number for one in said for number in one.cites}
        async with self.doors.open(organization) as work:
            keys = self.doors.database.ledger_keys
            return await entries.ledger_numbers(work, keys, [found[number - 1] for number in sorted(cited)])

    async def _found(self, organization: OrgId, question: Question, agents: tuple[str, ...], sight: Sight) -> Gathered:
        if set(question.like_agents) - set(agents):  # it names an agent that is not there: nothing is about it
            return Gathered()
        words = _left(question, agents)
        hits, is_cut, why = await self._hits(organization, question, agents, words, sight)
        async with self.doors.open(organization) as work:
            found = await entries.gathered(work, question, agents, hits, see=sight.see, look=sight.look)
        about = [one for one in found.entries if one.sort == entries.ARTIFACT or not words or one.mentions(words)]
        return Gathered(tuple(about), (*found.cut, entries.ARTIFACT) if is_cut else found.cut, why)

    async def _hits(
        self, organization: OrgId, question: Question, agents: tuple[str, ...], words: Sequence[str], sight: Sight
    ) -> tuple[Sequence[Hit], bool, str]:
        """The best artifacts about the words, whether there are more of them, and why likeness was not looked at."""
        if not words:
            return (), False, ""
        window = question.window
        filters = Filters(since=window.since, until=window.until)
        hits: list[Hit] = []
        is_cut, why = False, ""
        for agent, run in product(agents or ("",), question.of("run") or ("",)):
            one = replace(filters, agent=agent, run=run)
            asked = " ".join(words)[: searching.MOST_WORDS]
            found = await self.search(organization, asked, one, most=MOST_HITS + 1, see=sight.see, masks=sight.masks)
            hits += found.hits[:MOST_HITS]
            is_cut, why = is_cut or len(found.hits) > MOST_HITS, why or found.not_by_likeness
        return hits, is_cut, why


def _left(question: Question, agents: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a question that name no agent."""
    named = {part for agent in agents for part in (agent, *agent.replace("-", "_").split("_"))}
    return tuple(one for one in question.words if one not in named)


async def listed(
    work: UnitOfWork, filters: Filters, *, before: tuple[datetime, str, int] | None, most: int
) -> list[tuple[Use, Artifact]]:
    """What runs produced and read, newest first; ``before``: where a page ended."""
    return await store.listed(work, filters, before or (filters.until, "~", 0), most)


async def get(work: UnitOfWork, digest: str) -> tuple[Artifact, list[Use], Stored | None]:
    """An artifact with where it was used, newest first, and its content. Raises ArtifactUnknown (NotFound)."""
    found = await store.get(work, digest)
    if found is None:
        raise ArtifactUnknown(f"no artifact '{digest[:80]}'", then="See 'agentos evidence list'.")
    stored = await store.stored(work, [digest], Filters())
    return found, await store.uses(work, digest, MOST_USES), stored.get(digest)
