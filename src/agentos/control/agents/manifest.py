"""Read manifests so that every fault is told at once, with its place and what to do.

The command line reads files and so knows lines and columns; the server reads the same documents again as JSON, through
the same checks, and trusts nobody's word that they passed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from agentos.control.agents import documents, schemas
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
from agentos.kernel.ids import AgentId, checked_name
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
        name = _below(node, "metadata", "name")
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
    top = _fields(node, "a manifest", ("apiVersion", "kind", "metadata", "spec"), (), problems)
    _exactly(top.get("apiVersion"), "apiVersion", (API_VERSION,), problems)
    _exactly(top.get("kind"), "kind", (KIND,), problems)
    metadata = _fields(top.get("metadata"), "metadata", _METADATA[:3], _METADATA[3:], problems)
    spec = _fields(top.get("spec"), "spec", ("instructions", "model", "tier"), _SPEC, problems)
    name = _name(metadata.get("name"), "agent", problems)
    if name in RESERVED:
        problems.append(Problem(metadata["name"].place, f"the name '{name}' is reserved", "Choose another name."))
    input_schema = _schema(spec.get("input"), "input", problems)
    manifest = Manifest(
        agent_id=AgentId(name),
        category=_name(metadata.get("category"), "category", problems),
        owner=_text(metadata.get("owner"), "owner", problems, most=200),
        description=_text(metadata.get("description"), "description", problems, most=MOST_TEXT),
        instructions=_text(spec.get("instructions"), "instructions", problems, most=MOST_INSTRUCTIONS),
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


def _fields(
    node: Node | None, what: str, required: Collection[str], optional: Collection[str], problems: list[Problem]
) -> dict[str, Node]:
    """The known fields of a mapping; unknown, empty and missing ones are problems."""
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, f"{what} is a mapping, not {_kind(node)}", "Write 'field: value' lines."))
        return {}
    known = (*required, *(name for name in optional if name not in required))
    misspelt = set()
    for name in node.value:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), {one.lower() for one in known}, n=1, cutoff=0.6)
            meant = next((one for one in known if near and one.lower() == near[0]), None)
            misspelt.add(meant)
            then = f"Did you mean '{meant}'?" if meant else f"Known here: {', '.join(known)}."
            problems.append(Problem(node.keys[name], f"unknown field '{name[:64]}' in {what}", then))
    for name in required:
        if name not in node.value and name not in misspelt:
            problems.append(Problem(node.place, f"'{name}' is missing in {what}", f"Add '{name}: …'."))
    given = {name: found for name, found in node.value.items() if name in known}
    for name, found in given.items():
        if found.value is None and name not in ("tokens", "money"):
            then = "Fill it in." if name in required else "Fill it in, or leave the line out."
            problems.append(Problem(node.keys[name], f"'{name}' is empty", then))
    return {name: found for name, found in given.items() if found.value is not None}


def _below(node: Node, *names: str) -> Node | None:
    found: Node | None = node
    for name in names:
        found = found.value.get(name) if found is not None and isinstance(found.value, dict) else None
    return found


def _text(node: Node | None, what: str, problems: list[Problem], *, most: int) -> str:
    if node is None:
        return ""
    value = node.written if node.written is not None and not isinstance(node.value, bool) else node.value
    if not isinstance(value, str):
        then = "Put it in quotes." if isinstance(value, bool) else "Write a text."
        problems.append(Problem(node.place, f"'{what}' is a text, not {_kind(node)}", then))
        return ""
    if not value.strip():
        problems.append(Problem(node.place, f"'{what}' is empty", "Fill it in."))
    if len(value) > most:
        problems.append(Problem(node.place, f"'{what}' has {len(value)} characters, {most} at most", "Shorten it."))
    return value


def _name(node: Node | None, what: str, problems: list[Problem]) -> str:
    before = len(problems)
    name = _text(node, "name" if what == "agent" else what, problems, most=1000)
    if node is None or len(problems) > before:
        return ""
    try:
        return checked_name(name, what=what)
    except Invalid as error:
        problems.append(Problem(node.place, error.what, error.then))
        return ""


def _exactly(node: Node | None, what: str, allowed: Sequence[str], problems: list[Problem]) -> str:
    if node is None:
        return allowed[0]
    if isinstance(node.value, str) and node.value in allowed:
        return node.value
    problems.append(Problem(node.place, f"{what} '{_said(node)}' is not known", f"Write {' or '.join(allowed)}."))
    return allowed[0]


def _on_denied(node: Node | None, problems: list[Problem]) -> OnDenied:
    return "stop" if _exactly(node, "onDenied", ("continue", "stop"), problems) == "stop" else "continue"


def _prompts(node: Node | None, problems: list[Problem]) -> Mode | None:
    said = _fields(node, "privacy", (), ("prompts",), problems).get("prompts")
    mode = _exactly(said, "prompts", ("keep", *(one.value for one in Mode)), problems)
    return None if mode == "keep" else Mode(mode)


def _tier(node: Node | None, problems: list[Problem]) -> Tier:
    if node is None:
        return Tier.L0
    if isinstance(node.value, str) and node.value in Tier.__members__:
        return Tier[node.value]
    problems.append(
        Problem(node.place, f"tier '{_said(node)}' is not an autonomy tier", f"Write {', '.join(Tier.__members__)}.")
    )
    return Tier.L0


def _whole(
    fields: dict[str, Node], name: str, otherwise: int | None, problems: list[Problem], *, most: int
) -> int | None:
    node = fields.get(name)
    if node is None:
        return otherwise
    if isinstance(node.value, bool) or not isinstance(node.value, int) or not 1 <= node.value <= most:
        problems.append(Problem(node.place, f"'{name}' is {_kind(node)}", f"Write a whole number from 1 to {most}."))
        return otherwise
    return node.value


def _budgets(node: Node | None, problems: list[Problem]) -> Budgets:
    fields = _fields(node, "budgets", (), ("turns", "steps", "duration", "tokens", "money"), problems)
    usual = Budgets()
    seconds = usual.seconds
    if "duration" in fields:
        before = len(problems)
        written = _text(fields["duration"], "duration", problems, most=100)
        place = fields["duration"].place
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
        turns=_whole(fields, "turns", usual.turns, problems, most=MOST_TURNS) or usual.turns,
        steps=_whole(fields, "steps", usual.steps, problems, most=MOST_STEPS) or usual.steps,
        seconds=seconds,
        tokens=_whole(fields, "tokens", usual.tokens, problems, most=MOST_TOKENS),
        money=_money(fields.get("money"), problems),
    )


def _money(node: Node | None, problems: list[Problem]) -> int | None:
    """An amount in millionths. A bare number of YAML counts as it was written; JSON has it as a text, to be exact."""
    if node is None:
        return None
    before = len(problems)
    written = _text(node, "money", problems, most=100)
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
        problems.append(Problem(node.place, f"model is a mapping, not {_kind(node)}", "Write 'provider: …' below it."))
        return {}
    if "provider" not in node.value:
        problems.append(Problem(node.place, "'provider' is missing in model", "Add 'provider: stub' or another."))
    else:
        _text(node.value["provider"], "provider", problems, most=64)
    plain: dict[str, Any] = node.plain()
    try:
        if len(canonical(plain)) > MOST_MODEL_BYTES:
            problems.append(Problem(node.place, f"model is over {MOST_MODEL_BYTES} bytes", "Make it smaller."))
    except Invalid:
        return {}  # the document's reader has told which value it is
    return plain


def _schema(node: Node | None, what: str, problems: list[Problem]) -> dict[str, Any] | None:
    fields = _fields(node, what, ("schema",), (), problems)
    return schemas.check(fields["schema"], problems) if "schema" in fields else None


def _items(node: Node | None, what: str, problems: list[Problem], *, most: int) -> list[Node]:
    if node is None:
        return []
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, f"'{what}' is a list, not {_kind(node)}", "Begin each entry with '- '."))
        return []
    if len(node.value) > most:
        problems.append(Problem(node.place, f"there are {len(node.value)} {what}, {most} at most", "Name fewer."))
        return []
    return node.value


def _skills(node: Node | None, problems: list[Problem]) -> tuple[SkillWanted, ...]:
    found: dict[str, SkillWanted] = {}
    for item in _items(node, "skills", problems, most=MOST_SKILLS):
        before = len(problems)
        if isinstance(item.value, str):
            name, _, version = item.value.partition("@")
        else:
            fields = _fields(item, "a skill", ("name", "version"), (), problems)
            name = _text(fields.get("name"), "name", problems, most=1000)
            version = _text(fields.get("version"), "version", problems, most=1000)
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
    for item in _items(node, "triggers", problems, most=32):
        fields = _fields(item, "a trigger", ("type",), (), problems)
        if "type" in fields:
            found.append({"type": _exactly(fields["type"], "trigger type", TRIGGERS, problems)})
    return tuple(found)


def _kind(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{value[:40]}'"
    return f"the value {_said(node)}"


def _said(node: Node) -> str:
    if isinstance(node.value, dict | list):
        return _kind(node)
    return node.written or str(node.value)[:64]
