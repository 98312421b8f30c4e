"""The rules of the house that import-linter has no contract for (docs/architecture.md tells why they are rules)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import agentos

SOURCE = Path(agentos.__file__).parent
STAGES = ("intake", "control", "runtime", "evidence", "operations")

NAMES = {
    "__init__",
    "model",
    "tables",
    "store",
    "service",
    "ports",
    "settings",
    "routes",
    "activities",
    "workflow",
}

# Features that hold more than one concept, and the names they need besides. Each line says what for.
ALSO: dict[str, set[str]] = {
    "intake/identity": {
        "oidc",  # sign in through an identity provider
        "sessions",  # sign in with a password, and the session that it opens
        "refusals",  # every refused attempt as a fact, a flood of them as a few
    },
    "intake/inbox": {
        "addresses",  # how people are reached and recognised in channels
        "slack",  # what Slack sends: whether it is Slack's, and what was pressed
    },
    "intake/triggers": {
        "moments",  # when a schedule fires, also when clocks change
        "ticker",  # the clock of schedules
    },
    "intake/requests": {
        "rates",  # how often a key may ask
        "turns",  # who waits is let in fairly, organizations in turn
    },
    "control/agents": {
        "documents",  # YAML and JSON read into nodes that know their line and column
        "fields",  # nodes read as texts, names, numbers and lists, every fault at its place
        "manifest",  # nodes read into manifests
        "schemas",  # whether a JSON schema is one, and harmless
    },
    "control/deployments": {
        "applying",  # versions put forward: manifests applied, and places in environments made
        "changes",  # each change as rows, epochs and facts; what a version must be to serve
        "serving",  # what a run that is admitted now is pinned to, also by a canary's share
    },
    "control/policy": {
        "rules",  # the ordered table of rules, what they look into, and the one function that decides
        "cedar",  # rules that an organization writes in Cedar
        "hosts",  # the hosts that a call's arguments name
    },
    "control/budgets": {
        "prices",  # what a model's tokens cost: the organization's word, else the list's
        "spending",  # one run's spending in the hands of one attempt; and what a process has read of budgets
    },
    "control/approvals": {
        "answers",  # what people answered in channels is taken as if they had answered here
        "routing",  # whom an organization asks, in which order and by when
        "ticker",  # the clock: reminders, escalation, the end
        "links",  # signed links that answer one approval once
        "receipts",  # a decision as a signed document
        "card",  # what a person sees before they decide
    },
    "control/privacy": {
        "finder",  # what a text holds, and a quick look that tells most texts hold nothing
        "labels",  # what the words before a value say it is
        "numbers",  # cards, national ids, accounts and phones by shape, checksum and label
        "tokens",  # keys by their issuers' formats, passwords by where they stand
        "values",  # texts and JSON values redacted by rules and schemas
        "files",  # files, folders and standard input looked through
    },
    "evidence/evals": {
        "datasets",  # a file of cases, read so that a broken line is named and costs nothing else
        "scorers",  # what an answer is worth
        "world",  # what a case can reach: models, fixtures, and nothing else
        "judges",  # agents without skills that grade
        "cases",  # one case executed by the loop, without effects
        "examining",  # a whole eval in the hands of one attempt
        "report",  # what the outcomes say, with samples and intervals
        "engine",  # from a fact to a workflow
    },
    "evidence/ledger": {
        "chain",  # facts made into entries, and entries held against each other
        "chainer",  # one process at a time chains and anchors
        "anchors",  # ends of chains in a file outside the database
        "past",  # what was in force at a moment, told by entries
    },
    "evidence/artifacts": {
        "content",  # what of a run is an artifact, its text and passages
        "indexing",  # from journals to artifacts, by facts
        "search",  # by words and by likeness at once, masked for the one who looks
        "questions",  # what a question asks: about whom, of which time, for what
        "entries",  # what an answer may stand on
        "answers",  # sentences and the check of what they cite
        "asking",  # a model that puts what was found into sentences
    },
    "evidence/replay": {
        "answers",  # what models answered, put before proposed caps and providers
        "content",  # what of a run counts, its hash, and where two runs part
        "recording",  # a run as far as executing it again takes it
        "plans",  # what is executed again, with what in its place, and what came of it
        "tape",  # a journal in memory, compared with the recording
        "world",  # policy, skills and people as they were then
        "playback",  # the loop over a recording, with nothing live within reach
        "again",  # runs recorded, executed again, and what came of it kept
        "golden",  # recordings as signed files
        "what_if",  # recorded runs under another version, model or policy
    },
    "evidence/usage": {
        "tally",  # what of a run's journal, a question, a replay and a lost call is counted
        "counting",  # facts become counts, each once
    },
    "evidence/quality": {
        "drift",  # how far runs of now are from runs of before, and which change explains it
        "figures",  # every metric by name: what a run adds to it, its interval, and how two versions compare
        "samples",  # which scored runs a figure or a look at drift is made of, read from the database
        "scorer",  # every run that ends is scored
        "scores",  # one run scored, and what people said of it
        "scoring",  # one run's score and confidence from their parts: formulas only
        "watch",  # looks at drift, kept for its gauge
    },
    "evidence/recommendations": {
        "rules",  # what recommends something, each rule from figures
        "watch",  # drift looked at every few minutes, and what the figures advise then
    },
    "evidence/subscriptions": {
        "dispatch",  # each fact becomes deliveries, and deliveries are sent as they are due
    },
    "runtime/inference": {
        "bounds",  # how many tokens a question can be at most
        "schemas",  # whether the schemas of a question are JSON schemas
        "routing",  # a model policy, read: which models, and how they are put in order
        "plans",  # the candidates for one step, and why each other model is left out
        "gate",  # what a caller says about each hop, and is told of them
        "router",  # the models of a plan asked until one answers
        "limits",  # what all processes together may ask of a provider
        "standings",  # how models do, as every process saw them last
        "watch",  # how the models of a process do, and probes of those that are away
        "breaker",  # when a model that fails is left alone, and probed
    },
    "runtime/skills": {
        "declaring",  # a function with type hints becomes a skill
        "threads",  # synchronous skills, each call on a thread of its own
        "versions",  # which version a range, or the word latest, means
        "schemas",  # whether what one JSON schema lets through fits another
        "contracts",  # what breaks whoever relied on another version
        "registered",  # the registry that outlives processes, and what a process that differs from it withholds
        "exports",  # the registry as one signed file
    },
    "runtime/gateway": {
        "chat",  # OpenAI's wire form, pure
        "messages",  # Anthropic's wire form, pure
        "wire",  # what both forms share
        "options",  # a client's wishes in the words of the provider that is asked
        "asking",  # one direct question: stops, reserve, fact
        "agents",  # a run asked as if it were a model
        "talks",  # an answer under way, heard by one client
    },
    "operations/notifications": {
        "alerts",  # what is wrong though nobody was asked: said in a thread, and handed on to who can do something
        "dispatch",  # facts become messages, and messages are sent as they are due
    },
    "operations/rollouts": {
        "impact",  # what a change leaves open, looked at before and after it
        "figures",  # the runs that figures of a rollout are made of, and figures in words
        "breaches",  # whether a canary is shown to be worse
        "validation",  # whether a rollback helped
        "watch",  # the clock: canaries and rollbacks looked at over and over
        "judging",  # whether a version may serve: freezes, gates, recorded runs, and what somebody overrides
        "trials",  # recorded runs executed under a version, for its order and for gates
    },
    "operations/shadows": {
        "showing",  # runs that are over, shown to a version that is no candidate yet
    },
    "runtime/runs": {
        "segment",  # one attempt at one segment: what it holds and how it may leave
        "loop",  # the agent loop
        "turns",  # one question to a model within a run, and its answer
        "admission",  # what a run is accepted by: its version, its input, and stops that hold it
        "messages",  # what people write to a run: handed on, and read before the model is asked next
        "calls",  # one skill call: decide, act, settle
        "outside",  # what a live run reaches beyond its journal: skills, their receivers, people
        "asking",  # a call as a question to people
        "hops",  # a run's word on each hop of a model call, and models that did not answer
        "halts",  # what withholds action from the live segments of a process
        "journal",  # every step of a run, written by segments and read by many
        "bills",  # what a run's model calls cost: reserved before, settled with the answer's row
        "outcomes",  # how a segment's end becomes the run's state
        "prompts",  # what a model is told where personal data is kept from it
        "firings",  # from a trigger's firing to a run
        "traces",  # the spans of a run
        "engine",  # Temporal as runs use it, and the sweeper
    },
}

BANNED = {"utils", "util", "common", "helpers", "helper", "core", "base", "manager", "misc"}

# The composition roots know every table, to create and to check the schema; nobody else knows another feature's tables.
KNOW_ALL_TABLES = ("agentos.apps.",)


def features() -> list[Path]:
    return [
        folder
        for stage in STAGES
        for folder in sorted((SOURCE / stage).glob("*"))
        if folder.is_dir() and folder.name != "__pycache__"
    ]


def modules(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*.py")) if "__pycache__" not in file.parts)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("agentos", cache_dir=None)


def test_a_feature_has_only_the_closed_set_of_files() -> None:
    strangers = []
    for feature in features():
        name = str(feature.relative_to(SOURCE))
        allowed = NAMES | ALSO.get(name, set())
        for entry in sorted(feature.iterdir()):
            if entry.name == "__pycache__" or entry.suffix not in ("", ".py"):
                continue
            if entry.stem not in allowed:
                strangers.append(f"{name}/{entry.name}")
    assert not strangers, "name them from the closed set, or give the feature a line in ALSO that says what for"


def test_a_stage_holds_nothing_but_features() -> None:
    strays = [
        str(file.relative_to(SOURCE))
        for stage in STAGES
        for file in (SOURCE / stage).glob("*.py")
        if file.name != "__init__.py"
    ]
    assert not strays


def test_every_exception_to_the_closed_set_is_used() -> None:
    unused = [
        f"{feature}: {name}"
        for feature, names in ALSO.items()
        for name in sorted(names)
        if not (SOURCE / feature / f"{name}.py").exists() and not (SOURCE / feature / name).is_dir()
    ]
    assert not unused


def test_no_module_has_a_name_that_says_nothing() -> None:
    paths = [file.relative_to(SOURCE) for file in modules(SOURCE)]
    assert not [str(path) for path in paths if BANNED & {path.stem, *path.parts}]


def test_every_feature_says_what_flows_through_it() -> None:
    silent = [
        str(feature.relative_to(SOURCE))
        for feature in features()
        if not (feature / "__init__.py").exists()
        or not ast.get_docstring(ast.parse((feature / "__init__.py").read_text(encoding="utf-8")))
    ]
    assert not silent


def test_a_store_and_its_tables_are_used_only_by_their_own_feature(graph: grimp.ImportGraph) -> None:
    intruders = []
    for private in sorted(graph.modules):
        feature, _, name = private.rpartition(".")
        if name not in ("store", "tables"):
            continue
        for importer in sorted(graph.find_modules_that_directly_import(private)):
            at_home = importer == feature or importer.startswith(f"{feature}.")
            if not at_home and not (name == "tables" and importer.startswith(KNOW_ALL_TABLES)):
                intruders.append(f"{importer} imports {private}")
    assert not intruders
