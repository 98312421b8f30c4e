"""Read manifests so that every fault is told at once, with its place and what to do.

The command line reads files and so knows lines and columns; the server reads the same documents again as JSON, through
the same checks, and trusts nobody's word that they passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from agentos.control.agents import documents, fields, schemas
from agentos.control.agents.documents import Node
from agentos.control.agents.model import (
    API_VERSION,
    DEFAULT_INPUT,
    KIND,
    RESERVED,
    Budgets,
    Manifest,
    OnDenied,
    Problem,
    SkillWanted,
    invalid,
)
from agentos.control.policy.model import Tier
from agentos.control.privacy.model import Mode
from agentos.kernel.canonical import canonical
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import AgentId
from agentos.kernel.units import duration, micros

MOST_DOCUMENTS: Final = 200  # in one apply, which is one transaction
MOST_INSTRUCTIONS: Final = 100_000  # characters, ~25,000 tokens
MOST_SKILLS: Final = 64  # models choose badly among more
MOST_MODEL_BYTES: Final = 200_000  # canonical; a stub's script is the longest that people write
MOST_TEXT: Final = 2000  # characters of a description
MOST_TURNS: Final = 1000
MOST_STEPS: Final = 10_000
MOST_SECONDS: Final = 30 * 24 * 3600
MOST_TOKENS: Final = 1_000_000_000

SUFFIXES: Final = (".yaml", ".yml")
TRIGGERS: Final = ("manual", "schedule", "event", "webhook")  # what may start a run; all of them where none is named

_SKILL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SKILL_VERSION: Final = re.compile(r"[A-Za-z0-9^~<>=!][A-Za-z0-9._+*^~<>=!, -]{0,63}")  # exact, a range, or latest

_METADATA: Final = ("name", "category", "owner", "description")
_SPEC: Final = (
    "instructions",
    "model",
    "skills",
    "tier",
    "budgets",
    "input",
    "output",
    "onDenied",
    "triggers",
    "privacy",
)


def read_files(paths: Sequence[Path]) -> list[Manifest]:
    """The manifests of files, and of every ``*.yaml`` and ``*.yml`` below folders, in the order of their names.

    Raises ManifestInvalid (Invalid) with every problem as ``file:line:column: what is wrong — what to do``.
    """
    problems: list[Problem] = []
    found: list[Node] = []
    for file in _files(paths, problems):
        try:
            with file.open("rb") as opened:
                data = opened.read(documents.MOST_BYTES + 1)
        except OSError as error:
            problems.append(Problem(str(file), f"the file cannot be read: {error.strerror}", "Check its rights."))
            continue
        found += documents.from_yaml(data, str(file), problems, first=len(found))
    return _manifests(found, problems)


def read_text(text: str | bytes, name: str) -> list[Manifest]:
    """The manifests of one YAML text. Raises ManifestInvalid (Invalid) with every problem."""
    problems: list[Problem] = []
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    return _manifests(documents.from_yaml(data, name, problems), problems)


def read_documents(given: Sequence[Any]) -> list[Manifest]:
    """The manifests of a request's documents. Raises ManifestInvalid (Invalid) with every problem and its path."""
    problems: list[Problem] = []
    if len(given) > MOST_DOCUMENTS:  # before anything is spent on them
        raise invalid([Problem("documents", f"there are more than {MOST_DOCUMENTS} documents", "Apply fewer at once.")])
    found = [documents.from_json(one, f"documents[{index}]", problems) for index, one in enumerate(given)]
    return _manifests([one for one in found if one is not None], problems)


def _files(paths: Iterable[Path], problems: list[Problem]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            problems.append(Problem(str(path), "there is no such file or folder", "Check the spelling."))
        elif not path.is_dir():
            found[path] = None
        else:
            below = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix in SUFFIXES
                and file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
            if not below:
                problems.append(Problem(str(path), "the folder holds no *.yaml or *.yml", "Name another folder."))
            found |= dict.fromkeys(below)
    return list(found)


def _manifests(found: Sequence[Node], problems: list[Problem]) -> list[Manifest]:
    if not found and not problems:
        problems.append(Problem("documents", "there is nothing to apply", "Give at least one manifest."))
    if len(found) > MOST_DOCUMENTS:
        problems.append(Problem("documents", f"there are more than {MOST_DOCUMENTS} documents", "Apply fewer at once."))
    first: dict[str, Node] = {}
    manifests = []
    for node in found:
        made = _manifest(node, problems)
        name = fields.below(node, "metadata", "name")
        if name is not None and isinstance(name.value, str):
            if name.value in first:
                problems.append(
                    Problem(
                        name.place,
                        f"agent '{name.value[:64]}' is defined twice",
                        f"Keep one; the first is at {first[name.value].place}.",
                    )
                )
            first.setdefault(name.value, name)
        if made is not None:
            manifests.append(made)
    if problems:
        raise invalid(sorted(problems, key=_order))
    return manifests


def _order(problem: Problem) -> tuple[str, int, int]:
    """Problems with a line are told in the order of the text, the others as they were found."""
    placed = re.fullmatch(r"(.*):(\d+):(\d+)", problem.where)
    return (placed[1], int(placed[2]), int(placed[3])) if placed else ("", 0, 0)


def _manifest(node: Node, problems: list[Problem]) -> Manifest | None:
    """The manifest that a document holds, or None with its faults added to ``problems``."""
    before = len(problems)
    top = fields.mapping(node, "a manifest", ("apiVersion", "kind", "metadata", "spec"), (), problems)
    fields.exactly(top.get("apiVersion"), "apiVersion", (API_VERSION,), problems)
    fields.exactly(top.get("kind"), "kind", (KIND,), problems)
    metadata = fields.mapping(top.get("metadata"), "metadata", _METADATA[:3], _METADATA[3:], problems)
    spec = fields.mapping(top.get("spec"), "spec", ("instructions", "model", "tier"), _SPEC, problems)
    name = fields.name(metadata.get("name"), "agent", problems)
    if name in RESERVED:
        problems.append(Problem(metadata["name"].place, f"the name '{name}' is reserved", "Choose another name."))
    input_schema = _schema(spec.get("input"), "input", problems)
    manifest = Manifest(
        agent_id=AgentId(name),
        category=fields.name(metadata.get("category"), "category", problems),
        owner=fields.text(metadata.get("owner"), "owner", problems, most=200),
        description=fields.text(metadata.get("description"), "description", problems, most=MOST_TEXT),
        instructions=fields.text(spec.get("instructions"), "instructions", problems, most=MOST_INSTRUCTIONS),
        model=_model(spec.get("model"), problems),
        skills=_skills(spec.get("skills"), problems),
        tier=_tier(spec.get("tier"), problems),
        budgets=_budgets(spec.get("budgets"), problems),
        input_schema=dict(DEFAULT_INPUT) if input_schema is None else input_schema,
        output_schema=_schema(spec.get("output"), "output", problems),
        on_denied=_on_denied(spec.get("onDenied"), problems),
        triggers=_triggers(spec.get("triggers"), problems),
        prompts=_prompts(spec.get("privacy"), problems),
        path=node.path,
        places=node.places() if node.place != node.path else {},
    )
    return manifest if len(problems) == before else None


def _on_denied(node: Node | None, problems: list[Problem]) -> OnDenied:
    return "stop" if fields.exactly(node, "onDenied", ("continue", "stop"), problems) == "stop" else "continue"


def _prompts(node: Node | None, problems: list[Problem]) -> Mode | None:
    said = fields.mapping(node, "privacy", (), ("prompts",), problems).get("prompts")
    mode = fields.exactly(said, "prompts", ("keep", *(one.value for one in Mode)), problems)
    return None if mode == "keep" else Mode(mode)


def _tier(node: Node | None, problems: list[Problem]) -> Tier:
    if node is None:
        return Tier.L0
    if isinstance(node.value, str) and node.value in Tier.__members__:
        return Tier[node.value]
    problems.append(
        Problem(
            node.place, f"tier '{fields.said(node)}' is not an autonomy tier", f"Write {', '.join(Tier.__members__)}."
        )
    )
    return Tier.L0


def _budgets(node: Node | None, problems: list[Problem]) -> Budgets:
    given = fields.mapping(node, "budgets", (), ("turns", "steps", "duration", "tokens", "money"), problems)
    usual = Budgets()
    seconds = usual.seconds
    if "duration" in given:
        before = len(problems)
        written = fields.text(given["duration"], "duration", problems, most=100)
        place = given["duration"].place
        try:
            length = duration(written).total_seconds() if len(problems) == before else float(seconds)
            if not (length.is_integer() and 1 <= length <= MOST_SECONDS):
                problems.append(
                    Problem(place, f"'{written}' is not a run's time", "Write whole seconds, from 1s to 30d.")
                )
            else:
                seconds = int(length)
        except Invalid as error:
            problems.append(Problem(place, error.what, error.then))
    return Budgets(
        turns=fields.whole(given, "turns", usual.turns, problems, most=MOST_TURNS) or usual.turns,
        steps=fields.whole(given, "steps", usual.steps, problems, most=MOST_STEPS) or usual.steps,
        seconds=seconds,
        tokens=fields.whole(given, "tokens", usual.tokens, problems, most=MOST_TOKENS),
        money=_money(given.get("money"), problems),
    )


def _money(node: Node | None, problems: list[Problem]) -> int | None:
    """An amount in millionths. A bare number of YAML counts as it was written; JSON has it as a text, to be exact."""
    if node is None:
        return None
    before = len(problems)
    written = fields.text(node, "money", problems, most=100)
    if len(problems) > before:
        return None
    try:
        return micros(written)
    except Invalid as error:
        problems.append(Problem(node.place, error.what, error.then, error.code))
        return None


def _model(node: Node | None, problems: list[Problem]) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        problems.append(
            Problem(node.place, f"model is a mapping, not {fields.kind(node)}", "Write 'provider: …' below it.")
        )
        return {}
    if "provider" not in node.value:
        problems.append(Problem(node.place, "'provider' is missing in model", "Add 'provider: stub' or another."))
    else:
        fields.text(node.value["provider"], "provider", problems, most=64)
    plain: dict[str, Any] = node.plain()
    try:
        if len(canonical(plain)) > MOST_MODEL_BYTES:
            problems.append(Problem(node.place, f"model is over {MOST_MODEL_BYTES} bytes", "Make it smaller."))
    except Invalid:
        return {}  # the document's reader has told which value it is
    return plain


def _schema(node: Node | None, what: str, problems: list[Problem]) -> dict[str, Any] | None:
    given = fields.mapping(node, what, ("schema",), (), problems)
    return schemas.check(given["schema"], problems) if "schema" in given else None


def _skills(node: Node | None, problems: list[Problem]) -> tuple[SkillWanted, ...]:
    found: dict[str, SkillWanted] = {}
    for item in fields.items(node, "skills", problems, most=MOST_SKILLS):
        before = len(problems)
        if isinstance(item.value, str):
            name, _, version = item.value.partition("@")
        else:
            given = fields.mapping(item, "a skill", ("name", "version"), (), problems)
            name = fields.text(given.get("name"), "name", problems, most=1000)
            version = fields.text(given.get("version"), "version", problems, most=1000)
        if len(problems) > before:
            continue
        if not (_SKILL.fullmatch(name) and _SKILL_VERSION.fullmatch(version)):
            problems.append(
                Problem(item.place, f"'{name[:64]}@{version[:64]}' does not name a skill", "Write NAME@VERSION.")
            )
        elif name in found:
            problems.append(Problem(item.place, f"skill '{name}' is here twice", "Keep one version of it."))
        else:
            found[name] = SkillWanted(name, version)
    return tuple(found.values())


def _triggers(node: Node | None, problems: list[Problem]) -> tuple[dict[str, Any], ...]:
    found = []
    for item in fields.items(node, "triggers", problems, most=32):
        given = fields.mapping(item, "a trigger", ("type",), (), problems)
        if "type" in given:
            found.append({"type": fields.exactly(given["type"], "trigger type", TRIGGERS, problems)})
    return tuple(found)
