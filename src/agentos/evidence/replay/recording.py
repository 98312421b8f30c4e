"""A run that is over, as far as executing it again takes it: its version, its skills' contracts, and its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import itemgetter
from typing import Any, Final, Never

import msgspec

from agentos.control.agents.model import Definition
from agentos.control.policy.model import DeploymentPolicy, EffectClass, OrganizationPolicy
from agentos.control.policy.rules import Rulebook
from agentos.control.stops.model import Subject
from agentos.evidence.replay.content import Content, Step, base_of, content_of
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import Bug, Conflict, Invalid
from agentos.kernel.ids import DeploymentId, DraftId, OrgId, RunId
from agentos.kernel.schemas import misfit
from agentos.runtime.inference import Call
from agentos.runtime.runs.journal import Entry
from agentos.runtime.runs.model import FORMAT as JOURNAL
from agentos.runtime.runs.model import Run, RunStatus, Token
from agentos.runtime.skills import Retry, Reversibility, Skill, SkillContext
from agentos.runtime.skills.model import ArgumentsRefused

FORMAT: Final = 1
MOST_DEPTH: Final = 64  # of arguments whose defaults are filled in; the API takes no deeper JSON

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)  # what is no run has no times


class RunNotOver(Conflict):
    """Only a run that is over can be executed again: the others are still being recorded."""

    code = "run_not_over"


class RecordingUnreadable(Invalid):
    """A recording that is none, or of a release to come."""

    code = "recording_unreadable"


class ReplayReachedOut(Bug):
    """A replay reached for what it must not touch: a database, a skill, a model."""

    code = "replay_reached_out"


@dataclass(frozen=True)
class Recording:
    """Everything that a run was decided by, and what came of it."""

    run_id: str
    deployment_id: str
    format: int  # of the loop's journal
    definition: Definition
    input: Any
    rows: tuple[Entry, ...]  # in the journal's order
    skills: dict[str, Skill]  # those that the version pinned, by name; none of them can be called
    status: RunStatus
    problem: dict[str, Any] | None
    output: Any
    submitted: tuple[str, Any] | None = None  # the draft that the run made: skill and arguments
    policies: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = ()  # of the organization and of the deployment
    loaded: frozenset[str] = field(default=frozenset())  # skills whose very code is loaded in this process

    @cached_property
    def content(self) -> Content:
        """What the run was about."""
        found = self.content_with(self.rows, self.status, self.problem, self.output)
        answers = {row.key: row for row in self.rows if row.kind == "model"}
        self._answers.update((id(answers[one.key]), one) for one in found.steps if one.key in answers)
        return found

    @cached_property
    def _answers(self) -> dict[int, Step]:
        """The steps of recorded answers, which a replay takes over as they are, by their row's id()."""
        return {}

    def content_with(
        self,
        rows: Sequence[Entry],
        status: RunStatus,
        problem: Mapping[str, Any] | None,
        output: Any,
        version: str | None = None,
    ) -> Content:
        """What it is about when it goes like this."""
        return content_of(
            rows,
            known=self._answers,
            version=version or self.version,
            given=self.input,
            status=status.value,
            problem=problem,
            output=output,
        )

    @cached_property
    def version(self) -> str:
        """The hash of the version that ran."""
        return self.definition.hash()

    def version_of(self, definition: Definition) -> str:
        """The hash of a definition; that of the one that ran is known."""
        return self.version if definition is self.definition else definition.hash()

    @cached_property
    def by_step(self) -> dict[str, list[Entry]]:
        """The rows of each step of the agent's, in the journal's order."""
        found: dict[str, list[Entry]] = {}
        for row in self.rows:
            base = base_of(row.key)
            if base is not None:
                found.setdefault(base, []).append(row)
        return found

    @property
    def subject(self) -> Subject:
        """Whom stops and policies were about."""
        return Subject(self.deployment_id, self.definition.agent_id, self.definition.category)

    @cached_property
    def books(self) -> dict[str, Rulebook]:
        """The rulebooks that decided, as far as their policies are known, by the hash that rows cite."""
        made = (
            Rulebook(
                self.subject,
                organization=OrganizationPolicy.read(organization),
                deployment=DeploymentPolicy.read(deployment),
            )
            for organization, deployment in self.policies
        )
        return {book.hash: book for book in made}

    def run(self, definition: Definition) -> Run:
        """The run, as the loop wants it; what people wrote to it stands on the tape."""
        return run_of_none(
            definition,
            organization=OrgId(""),
            id=RunId(self.run_id),
            token=Token(1, 1),
            deployment_id=self.deployment_id,
            version=self.version,
            format=self.format,
            draft_id=None if self.submitted is None else DraftId("draft"),
            input=canonical(self.input),
        )

    def call(self) -> Call:
        """The one call of a run that a person submitted out of a draft."""
        assert self.submitted is not None
        return Call("draft", *self.submitted)

    def document(self) -> dict[str, Any]:
        """The recording as JSON data."""
        return {
            "format": FORMAT,
            "run": {
                "id": self.run_id,
                "deployment_id": self.deployment_id,
                "journal_format": self.format,
                "input": self.input,
                "status": self.status.value,
                "problem": self.problem,
                "output": self.output,
                "submitted": None if self.submitted is None else list(self.submitted),
            },
            "definition": self.definition.canonical(),
            "skills": [_contract(one) for _, one in sorted(self.skills.items())],
            "policies": [list(pair) for pair in self.policies],
            "journal": [
                {name: getattr(row, name) for name in _ROW}
                | {"effect": None if row.effect is None else int(row.effect)}
                for row in self.rows
            ],
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Recording:
        """The recording whose document this is. Raises RecordingUnreadable (Invalid)."""
        try:
            if document["format"] != FORMAT:
                raise RecordingUnreadable(
                    f"this recording has format {str(document['format'])[:20]}, this release reads {FORMAT}",
                    then="Record the run again, or use the release that wrote it.",
                )
            run = document["run"]
            submitted = run["submitted"]
            return cls(
                run_id=run["id"],
                deployment_id=run["deployment_id"],
                format=run["journal_format"],
                definition=Definition.read(document["definition"]),
                input=run["input"],
                rows=tuple(_row(row) for row in document["journal"]),
                skills={one["name"]: _skill(one) for one in document["skills"]},
                status=RunStatus(run["status"]),
                problem=run["problem"],
                output=run["output"],
                submitted=None if submitted is None else (submitted[0], submitted[1]),
                policies=tuple((pair[0], pair[1]) for pair in document["policies"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise RecordingUnreadable(
                f"this is no recording of a run: {type(error).__name__}: {str(error)[:100]}",
                then="Make one with 'agentos golden record RUN'.",
            ) from None


def _row(row: Mapping[str, Any]) -> Entry:
    key, phase, kind, name, status, meta, content, effect = _read_row(row)
    return Entry(key, phase, kind, name, status, meta, content, effect)


_ROW: Final = ("key", "phase", "kind", "name", "status", "meta", "content", "effect")
_read_row: Final = itemgetter(*_ROW)


def given_of(run: Run) -> tuple[Any, Any]:
    """Input and output of a run as JSON data. Raises RunNotOver (Conflict)."""
    if not run.status.terminal:
        raise RunNotOver(
            f"the run is {run.status}, and only a run that is over can be executed again",
            where=run.id,
            then=f"See 'agentos runs why {run.id}'.",
        )
    return msgspec.json.decode(run.input), None if run.output is None else msgspec.json.decode(run.output)


def run_of_none(
    definition: Definition,
    *,
    organization: OrgId,
    id: RunId,
    token: Token,
    input: bytes,
    deployment_id: str = "",
    version: str = "",
    format: int = JOURNAL,
    draft_id: DraftId | None = None,
) -> Run:
    """A run as the loop wants it, of what no run is in the database for: a recording, a case."""
    return Run(
        organization=organization,
        id=id,
        deployment_id=DeploymentId(deployment_id),
        agent_id=definition.agent_id,
        category=definition.category,
        revision=0,
        version=version,
        status=RunStatus.RUNNING,
        waiting=None,
        ordered="",
        orders=0,
        messages=0,
        token=token,
        format=format,
        inline=False,
        draft_id=draft_id,
        firing_id=None,
        requested_by="",
        request_id="",
        input=input,
        output=None,
        problem=None,
        accepted_at=_NEVER,
        started_at=None,
        ended_at=None,
        deadline=_NEVER,
    )


def contract_of(one: Skill) -> Skill:
    """A skill that can be looked at and not be called."""
    return _skill(_contract(one))


def fitted(one: Skill, given: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Arguments by a skill's schema alone: checked, defaults filled in, and their canonical form.

    Raises ArgumentsRefused (Invalid), or NotCanonical (Invalid).
    """
    filled = _filled(given, one.input_schema, one.input_schema, 0)
    if (error := misfit(one.input_schema, filled)) is not None:
        raise ArgumentsRefused(f"{one.name}: {error.json_path}: {error.message[:300]}")
    assert isinstance(filled, dict)
    return filled, canonical(filled)


def _filled(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """The value with the defaults that its schema names; of a choice of schemas nothing is filled in."""
    if not isinstance(schema, Mapping) or depth > MOST_DEPTH:
        return value
    if isinstance(named := schema.get("$ref"), str) and named.startswith("#/$defs/"):
        return _filled(value, root.get("$defs", {}).get(named.removeprefix("#/$defs/")), root, depth + 1)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = {name: one["default"] for name, one in known.items() if name not in value and "default" in one}
        return {name: _filled(one, known.get(name), root, depth + 1) for name, one in (value | more).items()}
    if isinstance(value, list):
        return [_filled(one, schema.get("items"), root, depth + 1) for one in value]
    return value


def _contract(one: Skill) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "digest": one.digest,
        "effect": one.effect.name,
        "description": one.description,
        "input_schema": one.input_schema,
        "output_schema": one.output_schema,
        "reversibility": one.reversibility.value,
        "idempotent": one.idempotent,
        "has_lookup": one.lookup is not None,
        "timeout_seconds": one.timeout.total_seconds(),
        "attempts": one.retry.attempts,
    }


async def _no_call(_context: SkillContext, _arguments: dict[str, Any]) -> Never:
    raise ReplayReachedOut("a replay called a skill", then="This is a fault of ours.")


def _skill(said: Mapping[str, Any]) -> Skill:
    return Skill(
        name=said["name"],
        version=said["version"],
        effect=EffectClass[said["effect"]],
        description=said["description"],
        input_schema=said["input_schema"],
        output_schema=said["output_schema"],
        reversibility=Reversibility(said["reversibility"]),
        idempotent=said["idempotent"],
        timeout=timedelta(seconds=said["timeout_seconds"]),
        retry=Retry(said["attempts"]),
        digest=said["digest"],
        call=_no_call,
        lookup=_no_call if said["has_lookup"] else None,
    )
