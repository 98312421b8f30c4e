"""What earlier releases left behind still goes on: workflow histories replay, parked journals are resumed.

``tests/histories/`` holds a history per way a workflow can go, ``tests/journals/`` a parked journal per format of the
loop. They are written once per release by ``AGENTOS_RECORD=1 pytest tests/runtime/runs/test_compatibility.py`` and
never rewritten: a change that cannot replay them would strand parked runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, Worker

from agentos import __version__
from agentos.control.approvals import service as approvals
from agentos.kernel.canonical import canonical
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.durable import Link
from agentos.kernel.ids import OrgId
from agentos.kernel.settings import TemporalSettings
from agentos.runtime.runs.activities import activities
from agentos.runtime.runs.engine import Engine, RunEngine
from agentos.runtime.runs.model import RunStatus
from agentos.runtime.runs.workflow import AgentRun
from tests.runtime.runs.harness import DONE, Harness, calls, harness

TESTS = Path(__file__).parents[2]
HISTORIES = sorted((TESTS / "histories").glob("*.json"))
JOURNALS = sorted((TESTS / "journals").glob("*.json"))
SCRIPT = [calls(("look", 1), ("note", 2)), calls(("pay", 3)), DONE]
SKILLS = ["look", "note", "pay"]

COLUMNS = (
    *("org", "run_id", "seq", "key", "phase", "kind", "name", "status", "effect", "idempotency_key"),
    *("segment", "attempt", "meta", "content"),
)
INSERT = text(
    f"INSERT INTO journal ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join('CAST(:meta AS jsonb)' if one == 'meta' else f':{one}' for one in COLUMNS)})"
)

PLAN = '{"stages": [{"approvers": [], "needed": 1}], "ladder": [], "after": null, "on_timeout": "deny"}'
# What the first release had asked, as migration 0011 leaves it.
ASKED = text(
    "INSERT INTO approvals (org, id, run_id, step, deployment_id, requested_by, skill, skill_version, effect, "
    "arguments, arguments_digest, needed, status, asked_at, expires_at, agent_id, version, starters, skill_digest, "
    "reversibility, rule, policy_hash, plan, next_at) "
    "SELECT :org, 'apr_old', id, 't1.c0', deployment_id, 'author', 'pay', '1', 3, :arguments, "
    "'sha256:' || encode(sha256(:arguments), 'hex'), 1, 'pending', :at, CAST(:at AS timestamptz) + interval '1 day', "
    "agent_id, version, '{author}', '', 'unknown', 'tier_matrix', '', "
    "CAST(:plan AS jsonb), CAST(:at AS timestamptz) + interval '1 day' FROM runs WHERE id = :run"
)

recording = pytest.mark.skipif("AGENTOS_RECORD" not in os.environ, reason="writes the files of a release")


def test_there_is_something_to_be_compatible_with() -> None:
    assert HISTORIES
    assert JOURNALS


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_workflow_history_replays(file: Path) -> None:
    history = WorkflowHistory.from_json(file.stem, file.read_text())
    replayer = Replayer(workflows=[AgentRun])
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    assert result.replay_failure is None


@pytest.mark.parametrize("file", JOURNALS, ids=lambda file: file.stem)
async def test_a_recorded_journal_is_resumed(file: Path, database: Database, organization: OrgId) -> None:
    held = harness(database, organization)
    await held.agent(SCRIPT, SKILLS, tier="L3")
    run_id = await held.start()
    async with held.doors.open(organization) as work:
        for step in json.loads(file.read_text()):
            values = {**step, "org": organization, "run_id": run_id, "content": json.dumps(step["content"]).encode()}
            await work.run(INSERT, {name: values.get(name) for name in COLUMNS} | {"meta": json.dumps(step["meta"])})
        await work.run(text("UPDATE runs SET segment = 1, attempt = 1 WHERE id = :id"), {"id": run_id})
        await work.run(
            ASKED, {"org": organization, "run": run_id, "arguments": canonical({"n": 3}), "at": now(), "plan": PLAN}
        )
    await _approve(held, run_id)
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert [skill for skill, _ in held.world.done] == ["pay"]


async def _approve(held: Harness, run_id: str) -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=2)
        await approvals.answer(work, asked.id, person_id="p", handle="approver", approved=True, note="", at=now())


@recording
async def test_record(database: Database, organization: OrgId) -> None:
    held = harness(database, organization)
    link = Link(TemporalSettings(address=os.environ["AGENTOS_TEST_TEMPORAL"]), identity="record")
    client, queue = await link.client(), f"queue-{uuid.uuid4().hex}"
    held.doors.hint = RunEngine(held.doors, Engine(link, queue, eager=True), held.parts.meter).hint
    await held.agent(SCRIPT, SKILLS, tier="L3")
    await held.agent([DONE], [], name="short")
    async with Worker(client, task_queue=queue, workflows=[AgentRun], activities=activities(held.parts)):
        short, asked = await held.start(name="short"), await held.start()
        while not (await held.run(asked)).waiting:
            await asyncio.sleep(0.05)
        steps = await held.steps(asked)
        await _approve(held, asked)
        for run_id, name in ((short, "short"), (asked, "approved")):
            handle = client.get_workflow_handle(run_id)
            await handle.result()
            history = await handle.fetch_history()
            (TESTS / "histories" / f"{__version__}-{name}.json").write_text(history.to_json())
    kept = [{k: v for k, v in step.items() if k not in ("at", "send_before")} for step in steps]
    (TESTS / "journals" / f"{__version__}-format-1.json").write_text(json.dumps(kept, indent=1))
