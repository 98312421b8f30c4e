"""A golden file is what was signed, to the byte, and replays to the hash that it says."""

from __future__ import annotations

import json
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentos.adapters.llm.stub import load_behaviours
from agentos.adapters.skills import BUILT_IN
from agentos.apps.parts import Catalogue
from agentos.control.agents import manifest
from agentos.control.deployments import applying
from agentos.evidence.replay import again, golden
from agentos.evidence.replay.golden import (
    GoldenDiverged,
    GoldenForeignKey,
    GoldenKeyUnusable,
    GoldenTampered,
    GoldenUnreadable,
)
from agentos.evidence.replay.recording import Recording, RecordingUnreadable
from agentos.kernel.canonical import canonical, digest_bytes
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import AgentOSError
from agentos.kernel.ids import OrgId
from agentos.replay import replay_workflow
from tests.runtime.runs.harness import harness

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests" / "golden" / "workflow_data_extraction.json"
GOLDEN = sorted(SAMPLE.parent.glob("*.json"))
KEY = "0123456789abcdef"
ORDERS = {
    "orders": [
        {"id": "A-1", "status": "open", "total": 120.5, "customer": {"name": "Ada"}},
        {"id": "A-2", "status": "paid", "total": 80, "customer": {"name": "Bob"}},
        {"id": "A-3", "status": "open", "total": 19.25, "customer": {"name": "Cem"}},
    ]
}

recording_now = pytest.mark.skipif("AGENTOS_RECORD" not in os.environ, reason="writes the files of a release")


@pytest.fixture
def data() -> bytes:
    return SAMPLE.read_bytes()


def sealed(document: dict[str, Any], key: str = golden.SAMPLE_KEY) -> bytes:
    """The document with a signature that fits it."""
    told = {name: value for name, value in document.items() if name != "signature"}
    signature = {"algorithm": "HMAC-SHA256", "key_id": golden.key_id(key), "value": golden._sealed(told, key)}
    return canonical({**told, "signature": signature}) + b"\n"


def test_there_is_a_sample() -> None:
    assert GOLDEN


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_runs_are_deterministic(file: Path) -> None:
    assert replay_workflow(file).content_hash() == json.loads(file.read_text())["content_hash"]


def test_a_golden_run_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert replay_workflow("workflow_data_extraction.json").output["open"] == 2


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with one thing changed: a bit, a byte less or more, an end less, two fields the other way round."""
    at = dice.randrange(len(data))
    match dice.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + dice.randrange(1, 40) :]
        case 2:
            return data[:at] + dice.randbytes(dice.randrange(1, 8)) + data[at:]
        case 3:
            return data[:at]
        case 4:  # the same data, written otherwise: another order of keys, or spaces
            document = json.loads(data)
            items = list(document.items())
            dice.shuffle(items)
            return json.dumps(dict(items), indent=dice.choice((None, 1))).encode()
        case _:
            other = dice.randrange(len(data))
            left, right = sorted((at, other))
            return data[:left] + data[right:] + data[left:right]


def test_a_thousand_mutations_are_all_refused_with_a_reason(data: bytes) -> None:
    dice = random.Random(7)
    tried = 0
    while tried < 1000:
        found = mutated(data, dice)
        if found == data:
            continue
        tried += 1
        with pytest.raises((GoldenTampered, GoldenForeignKey, GoldenUnreadable, GoldenKeyUnusable)) as refused:
            golden.read(found, where="x.json")
        assert refused.value.what


def test_a_file_that_was_cut_off_says_so(data: bytes) -> None:
    with pytest.raises(GoldenTampered, match="cut off"):
        golden.read(data[: len(data) // 2])
    with pytest.raises(GoldenTampered, match="not written as it was signed"):
        golden.read(data + b"\n")


def test_only_the_key_that_is_given_is_accepted(data: bytes) -> None:
    with pytest.raises(GoldenForeignKey):
        golden.read(data, KEY)
    own = sealed(json.loads(data), KEY)
    assert not golden.read(own, KEY).is_sample
    with pytest.raises(GoldenKeyUnusable, match="not set"):
        golden.read(own)
    with pytest.raises(GoldenKeyUnusable, match="16 characters"):
        golden.read(own, "short")


def test_a_signed_file_that_says_something_else_is_refused(data: bytes) -> None:
    document = json.loads(data)
    document["recording"]["run"]["output"] = {"open": 3}
    with pytest.raises(GoldenTampered, match="does not hash"):
        golden.read(sealed(document, KEY), KEY)
    document["recording"] = {"format": 99}
    with pytest.raises(RecordingUnreadable, match="format 99"):
        golden.read(sealed(document, KEY), KEY)
    document["kind"] = "else"
    with pytest.raises(GoldenUnreadable):
        golden.read(sealed(document, KEY), KEY)


def test_a_file_that_anybody_could_have_signed_is_refused_unless_it_is_a_sample(data: bytes) -> None:
    assert golden.read(data).is_sample
    document = json.loads(data)
    document["recording"]["run"]["output"] = {"open": 3}
    content = Recording.read(document["recording"]).content
    forged = sealed({**document, "content_hash": content.content_hash()})
    with pytest.raises(GoldenForeignKey, match="none of them"):
        golden.read(forged)
    with pytest.raises(GoldenForeignKey):
        golden.read(forged, KEY)
    assert {digest_bytes(file.read_bytes()) for file in GOLDEN} == golden.SAMPLES


def test_the_public_key_as_ones_own_is_refused(data: bytes) -> None:
    with pytest.raises(GoldenKeyUnusable, match="public"):
        golden.read(data, golden.SAMPLE_KEY)


async def test_a_run_that_comes_to_something_else_now_is_named_by_step(data: bytes) -> None:
    found = golden.read(data)
    rows = tuple(
        replace(row, content={**row.content, "calls": []}) if row.key == "t1" else row for row in found.recording.rows
    )
    changed = replace(found.recording, rows=rows)
    with pytest.raises(GoldenDiverged) as parted:
        await replace(found, recording=changed, content_hash=changed.content.content_hash()).replay()
    assert "t1" in parted.value.where


def test_a_recording_survives_its_document(data: bytes) -> None:
    document = json.loads(data)["recording"]
    assert Recording.read(document).document() == document


def test_what_is_no_recording_is_refused() -> None:
    for document in ({}, {"format": 1}, {"format": 1, "run": 3}, {"format": None}):
        with pytest.raises(AgentOSError):
            Recording.read(document)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoldenUnreadable, match="cannot be read"):
        golden.load(tmp_path / "none.json")


@recording_now
async def test_record(database: Database, organization: OrgId) -> None:
    folder = Path(tempfile.gettempdir()) / "agentos-sample"  # its name becomes part of what is recorded
    folder.mkdir(exist_ok=True)
    (folder / "orders.json").write_text(json.dumps(ORDERS))
    held = harness(database, organization, roots=(folder,))
    held.parts.registry.load(BUILT_IN, entry_points=False)
    load_behaviours(["agentos.apps.demo.behaviour"])
    document = yaml.safe_load((ROOT / "agents" / "data_extraction_agent.yaml").read_text())
    catalogue = Catalogue(held.parts.registry)
    async with held.doors.open(organization) as work:
        (done,) = await applying.apply(
            work, manifest.read_documents([document]), catalogue, held.models, by="author", at=now()
        )
    assert done.applied.created
    run_id = await held.start({"file": "orders.json"}, name="data_extraction_agent")
    await held.finish(run_id)
    async with held.doors.open(organization) as work:
        recording = await again.record(work, held.parts, run_id)
    SAMPLE.parent.mkdir(exist_ok=True)
    SAMPLE.write_bytes(golden.written(recording, golden.SAMPLE_KEY))
