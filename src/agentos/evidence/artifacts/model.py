"""Artifacts, where they were used, and what is found of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final

from agentos.kernel.errors import Invalid, NotFound, Unavailable

INPUT: Final = 0  # the place of a run's input among the rows of its journal, which count from 1
OUTPUT: Final = -1
EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before anything that is kept here
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


class ArtifactUnknown(NotFound):
    """No such artifact in this organization."""

    code = "artifact_unknown"


class BadEvidenceQuery(Invalid):
    """A search or a question that names nothing to look for, or a time that is none."""

    code = "bad_evidence_query"


class EmbeddingsUnavailable(Unavailable):
    """What makes embeddings does not answer, or may not be asked; words still find what holds them."""

    code = "embeddings_unavailable"


class EmbeddingsRefused(Invalid):
    """What makes embeddings takes a text for none that it could make one of: too long, or filtered."""

    code = "embeddings_refused"


class Kind(StrEnum):
    """What an artifact was to the run."""

    INPUT = "input"  # what the run was given
    READ = "read"  # what a skill of class S0 brought back
    EFFECT = "effect"  # what an effect was sent with
    RESULT = "result"  # what came of an effect
    REFUSAL = "refusal"  # why a call was denied or failed
    DRAFT = "draft"  # what a person may submit
    MESSAGE = "message"  # what people wrote to the run
    ANSWER = "answer"  # what the model said
    OUTPUT = "output"  # what the run made


@dataclass(frozen=True, slots=True)
class Use:
    """One place where an artifact was produced or read."""

    run_id: str
    seq: int  # of the journal; INPUT or OUTPUT of the run
    digest: str
    step: str
    kind: Kind
    name: str  # of the skill or the model
    effect: int | None
    status: str
    approval_id: str | None
    agent_id: str
    category: str
    deployment_id: str
    version: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of some bytes."""

    digest: str
    media_type: str
    size: int
    characters: int
    searched: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The content of one use, as it lies in the journal or the run."""

    organization: str
    use: Use
    artifact: Artifact
    row: dict[str, Any]  # of the journal, with the content as it is told there; of an input or output just that
    value: Any  # the content that the artifact is of


# What of a content the one who looks may see.
See = Callable[[Stored], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which uses are looked at."""

    agent: str = ""
    run: str = ""
    kind: str = ""
    since: datetime = EVER
    until: datetime = FOREVER


@dataclass(frozen=True, slots=True)
class Hit:
    """An artifact that was found, at its newest use that passes the filters."""

    use: Use
    artifact: Artifact
    rank: float  # of the words in the passage as it is shown; hits are in the order of words and likeness together
    ways: tuple[str, ...]  # words, likeness
    likeness: float | None
    snippet: str  # as the one who looks may see it, with what was found between « and »
    text: str  # the whole passage, likewise


class Holds(IntEnum):
    """How much of the words that were looked for a passage holds."""

    SOME = 0  # or none: it is only like them
    ALL = 1
    EXACTLY = 2  # one after the other, as they were asked


@dataclass(frozen=True, slots=True)
class Told:
    """What a text that is shown has to do with the words that were looked for."""

    holds: bool  # any of them
    rank: float
    marked: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to, and what it stands on."""

    hits: tuple[Hit, ...]
    embedder: str
    not_by_likeness: str = ""  # why likeness was not looked at; empty: it was
    spelt: Mapping[str, str] = field(default_factory=dict)  # words that nothing holds, and what was looked for instead
