"""What an agent is: its manifest as written, its definition with skills pinned, and the version that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Self

from agentos.control.policy.model import Tier
from agentos.control.privacy.model import Mode
from agentos.kernel.canonical import digest
from agentos.kernel.errors import Conflict, Invalid, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import AgentId
from agentos.kernel.units import dollars

OnDenied = Literal["continue", "stop"]

API_VERSION: Final = "agentos/v1"
KIND: Final = "Agent"

# Words that stand where an agent's name would stand in a route.
RESERVED: Final = frozenset({"adapters", "deployments", "evidence", "policies", "quality", "runs", "triggers"})

DEFAULT_INPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"task_description": {"type": "string", "maxLength": 5000}},
    "required": ["task_description"],
    "additionalProperties": False,
}


class ManifestInvalid(Invalid):
    """A manifest has faults; all of them are listed, each with its place and what to do."""

    code = "manifest_invalid"


class AgentUnknown(NotFound):
    """No such agent in this organization."""

    code = "agent_unknown"


class VersionUnknown(NotFound):
    """The agent has no such version."""

    code = "version_unknown"


class VersionAmbiguous(Invalid):
    """The beginning of a hash that more than one version of the agent has."""

    code = "version_ambiguous"


class SkillPinnedOtherwise(Conflict):
    """A skill changed without a new version: the organization pinned that name and version with another digest."""

    code = "skill_pinned_otherwise"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a manifest. ``where`` is ``file:line:column``, or the path in a JSON document."""

    where: str
    what: str
    then: str = ""
    code: str = ManifestInvalid.code

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" — {self.then}" if self.then else "")

    def shown(self) -> dict[str, str]:
        """The problem as a member of a problem document."""
        return {"where": self.where, "what": self.what, "next": self.then, "code": self.code}


MOST_PROBLEMS: Final = 100  # more than anyone mends in one go


def invalid(problems: Sequence[Problem]) -> ManifestInvalid:
    """The error that tells all of these problems, one line each."""
    shown = problems[:MOST_PROBLEMS]
    lines = [str(one) for one in shown]
    if len(problems) > len(shown):
        lines.append(f"… and {len(problems) - len(shown)} more")
    what = lines[0] if len(lines) == 1 else f"{len(problems)} problems:\n" + "\n".join(f"  {line}" for line in lines)
    return ManifestInvalid(what, problems=[one.shown() for one in shown])


@dataclass(frozen=True, slots=True)
class Budgets:
    """What one run may use up."""

    turns: int = 50
    steps: int = 200
    seconds: int = 3600  # wall time of the run, waiting for people included
    tokens: int | None = None
    money: int | None = None  # millionths of a US dollar

    def canonical(self) -> dict[str, Any]:
        """The budgets as JSON data; money is left out where there is no cap, as versions from before it have none."""
        data = {"turns": self.turns, "steps": self.steps, "seconds": self.seconds, "tokens": self.tokens}
        return data if self.money is None else data | {"money": self.money}


@dataclass(frozen=True, slots=True)
class SkillWanted:
    """A skill as a manifest names it."""

    name: str
    version: str  # an exact one, a range such as ^1.2, or latest


@dataclass(frozen=True, slots=True)
class SkillRef:
    """A skill as a version pins it."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An agent as somebody wrote it, checked but for what only the server knows: skills and models.

    ``path`` is its path among the documents; ``places`` tells for paths below it the ``file:line:column``, when known.
    """

    agent_id: AgentId
    category: str
    owner: str
    description: str
    instructions: str
    model: dict[str, Any]
    skills: tuple[SkillWanted, ...]
    tier: Tier
    budgets: Budgets
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    on_denied: OnDenied
    triggers: tuple[dict[str, Any], ...]
    prompts: Mode | None = None  # what becomes of personal data in what its model is told; None: nothing
    path: str = field(default="documents[0]", compare=False)
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    def place(self, path: str) -> str:
        """Where something below this manifest is written: the place of the nearest part that has one, else the path."""
        nearest = f"{self.path}.{path}"
        while nearest and nearest not in self.places:
            nearest = nearest[: max(nearest.rfind("."), nearest.rfind("["), 0)]
        return self.places.get(nearest) or f"{self.path}.{path}"

    def document(self) -> dict[str, Any]:
        """The manifest as the document that the API takes; reading it gives an equal manifest."""
        spec: dict[str, Any] = {
            "instructions": self.instructions,
            "model": self.model,
            "skills": [{"name": one.name, "version": one.version} for one in self.skills],
            "tier": self.tier.name,
            "budgets": {
                "turns": self.budgets.turns,
                "steps": self.budgets.steps,
                "duration": f"{self.budgets.seconds}s",
                "tokens": self.budgets.tokens,
                "money": None if self.budgets.money is None else dollars(self.budgets.money),
            },
            "input": {"schema": self.input_schema},
            "onDenied": self.on_denied,
            "triggers": list(self.triggers),
        }
        if self.prompts is not None:
            spec["privacy"] = {"prompts": self.prompts.value}
        if self.output_schema is not None:
            spec["output"] = {"schema": self.output_schema}
        metadata = {"name": self.agent_id, "category": self.category, "owner": self.owner}
        if self.description:
            metadata["description"] = self.description
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


@dataclass(frozen=True, slots=True)
class Definition:
    """All that a version is. Nothing in it ever changes."""

    agent_id: AgentId
    category: str
    owner: str
    description: str
    instructions: str
    model: dict[str, Any]  # the model policy as written: provider, name, max_tokens, or a stub's script or behaviour
    skills: tuple[SkillRef, ...]  # by name: the order in a manifest means nothing
    tier: Tier  # the highest
    budgets: Budgets
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    on_denied: OnDenied
    triggers: tuple[dict[str, Any], ...]
    prompts: Mode | None = None  # what becomes of personal data in what the model is told; None: nothing

    def canonical(self) -> dict[str, Any]:
        """The definition as JSON data. Equal definitions give equal data.

        A field added later must be left out here while it has its default, or every version would change its name.
        """
        later: dict[str, Any] = {} if self.prompts is None else {"prompts": self.prompts.value}
        return later | {
            "agent_id": self.agent_id,
            "category": self.category,
            "owner": self.owner,
            "description": self.description,
            "instructions": self.instructions,
            "model": self.model,
            "skills": [{"name": one.name, "version": one.version, "digest": one.digest} for one in self.skills],
            "tier": self.tier.name,
            "budgets": self.budgets.canonical(),
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "on_denied": self.on_denied,
            "triggers": list(self.triggers),
        }

    def hash(self) -> str:
        """``sha256:…`` of the canonical form: the name of the version that this definition is."""
        return digest(self.canonical())

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The definition whose canonical form this is."""
        return cls(
            **{
                **data,
                "skills": tuple(SkillRef(**one) for one in data["skills"]),
                "tier": Tier[data["tier"]],
                "budgets": Budgets(**data["budgets"]),
                "triggers": tuple(data["triggers"]),
                "prompts": Mode(data["prompts"]) if "prompts" in data else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable definition, named by its hash; ``number`` counts an agent's versions from 1 by first appearance."""

    agent_id: AgentId
    number: int
    hash: str
    definition: Definition
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version in a listing, without its definition."""

    agent_id: AgentId
    number: int
    hash: str
    tier: Tier
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent. Category and owner are those of the manifest that was applied last."""

    id: AgentId
    category: str
    owner: str
    created_at: datetime
    versions: int
    latest: str  # hash of the version that appeared last


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying one manifest came to."""

    version: Version
    created: bool  # False: this very content was a version already


@dataclass(frozen=True, slots=True)
class AgentApplied(Fact):
    """Somebody applied a manifest; the version it stands for may have been there before."""

    key_field: ClassVar[str] = "agent_id"
    agent_id: str
    version: str
    applied_by: str


@dataclass(frozen=True, slots=True)
class VersionCreated(Fact):
    """Content that the agent never had before became a version."""

    key_field: ClassVar[str] = "agent_id"
    agent_id: str
    version: str
    number: int
    created_by: str
