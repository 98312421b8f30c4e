"""Evals over HTTP and the command line: a file of cases, a version examined by a worker, and its report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentos.kernel.ids import OrgId
from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell, shell
from tests.runtime.runs.harness import DONE, calls

__all__ = ["shell"]

PATH = "/api/v1/agents/quality"
INPUT = {"task_description": "go"}
FIXTURES = [{"skill": "look", "arguments": {"n": 1}, "answer": {"n": 1}}]
GOOD = {"id": "a", "input": INPUT, "expected": "done", "scorer": "exact", "fixtures": FIXTURES}
LINES = [GOOD, GOOD | {"id": "b", "expected": "dine"}, GOOD | {"id": "c", "fixtures": []}]


def content(*rows: Any) -> str:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows)


async def until_over(platform: Platform, place: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = (await platform.author.get(place)).json()
            if found["status"] != "running":
                return found
            await asyncio.sleep(0.05)


async def test_a_version_is_examined_and_the_report_says_how_surely(platform: Platform) -> None:
    await platform.apply([calls(("look", 1)), calls(("pay", 2)), DONE], ["look", "pay"], tier="L4")
    added = await platform.author.post(f"{PATH}/datasets", json={"name": "replies", "content": content(*LINES)})
    assert added.status_code == 200, added.text
    wanted = {"dataset": "replies", "agent": "tester", "repeats": 2}
    headers = {"Idempotency-Key": "one"}
    started = await platform.author.post(f"{PATH}/offline-evals/run", json=wanted, headers=headers)
    assert started.status_code == 202, started.text
    place = started.headers["location"]
    assert place == f"{PATH}/offline-evals/{started.json()['id']}"
    again = await platform.author.post(f"{PATH}/offline-evals/run", json=wanted, headers=headers)
    assert again.headers["location"] == place
    found = await until_over(platform, place)
    assert (found["status"], found["done"], found["total"]) == ("completed", 6, 6)
    figure = found["report"]["candidate"]["scores"]["exact"]
    assert (figure["mean"], figure["samples"]) == (0.5, 2)
    assert figure["low"] < 0.5 < figure["high"]
    assert found["report"]["candidate"]["left"]["cases"] == 1
    pages: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = (await platform.author.get(f"{place}/cases", params={"limit": 4, "cursor": cursor})).json()
        pages += page["items"]
        cursor = page["next_cursor"]
    assert [(one["case"], one["repeat"], one["passed"]) for one in pages] == [
        ("a", 0, True),
        ("a", 1, True),
        ("b", 0, False),
        ("b", 1, False),
        ("c", 0, None),
        ("c", 1, None),
    ]
    assert [one["status"] for one in pages[0]["calls"]] == ["ok", "drafted"]
    assert not platform.world.done
    organization = OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])
    async with platform.held.parts.doors.open(organization) as work:
        told = await work.all(text("SELECT name, body FROM outbox WHERE org = :org"), {"org": organization})
    facts = {row.name: row.body for row in told}
    assert facts["EvalStarted"]["tasks"] == 6
    assert facts["EvalEnded"]["scores"] == {"exact": 0.5, "all": 0.5}
    assert (facts["EvalEnded"]["status"], facts["EvalEnded"]["cases"]) == ("completed", 3)
    assert not (await platform.author.get("/api/v1/drafts")).json()["items"]
    metrics = platform.held.parts.meter.page().decode()
    assert "agentos_evals_total" in metrics


async def test_broken_lines_are_named_and_a_file_without_a_case_is_refused(platform: Platform) -> None:
    body = {"name": "replies", "content": content(GOOD, "{", GOOD)}
    said = (await platform.author.post(f"{PATH}/datasets", json=body)).json()
    assert (said["cases"], said["counts_for_gates"]) == (1, False)
    assert [one["line"] for one in said["broken"]] == [2, 3]
    assert said["broken"][1]["reason"] == "its id 'a' is that of line 1"
    assert (await platform.author.get(f"{PATH}/datasets/replies")).json() == said
    refused = await platform.author.post(f"{PATH}/datasets", json={"name": "none", "content": "{\n[]"})
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_broken")
    assert [one["line"] for one in refused.json()["problems"]] == [1, 2]
    unnamed = await platform.author.post(f"{PATH}/datasets", json={"name": "A b", "content": content(GOOD)})
    assert (unnamed.status_code, unnamed.json()["code"]) == (422, "malformed_id")


async def test_a_file_of_cases_may_be_larger_than_other_bodies_and_has_a_limit(platform: Platform) -> None:
    rows = [GOOD | {"id": f"c{n}", "input": {"task_description": "x" * 4000}} for n in range(500)]
    large = await platform.author.post(f"{PATH}/datasets", json={"name": "large", "content": content(*rows)})
    assert large.status_code == 200, large.text
    over = await platform.author.post(f"{PATH}/datasets", content=b"x" * (17 * 1024 * 1024))
    assert (over.status_code, over.json()["code"]) == (413, "body_too_large")


async def test_who_may_only_read_starts_nothing(platform: Platform) -> None:
    body = {"name": "replies", "content": content(GOOD)}
    for client, code in ((platform.approver, 403), (platform.nobody, 401)):
        assert (await client.post(f"{PATH}/datasets", json=body)).status_code == code
        started = await client.post(f"{PATH}/offline-evals/run", json={"dataset": "replies", "agent": "tester"})
        assert started.status_code == code
    assert (await platform.approver.get(f"{PATH}/offline-evals")).status_code == 200


async def test_bad_wishes_are_refused_with_what_to_do(platform: Platform) -> None:
    await platform.apply([DONE], [])
    await platform.author.post(f"{PATH}/datasets", json={"name": "replies", "content": content(GOOD)})
    path = f"{PATH}/offline-evals/run"
    for wanted, status, code in (
        ({"dataset": "nothing", "agent": "tester"}, 404, "dataset_unknown"),
        ({"dataset": "replies", "agent": "nobody"}, 404, "agent_unknown"),
        ({"dataset": "replies", "agent": "tester", "version": "9"}, 404, "version_unknown"),
        ({"dataset": "replies", "agent": "tester", "against": "1"}, 422, "bad_eval"),
        ({"dataset": "replies", "agent": "tester", "repeats": 0}, 422, "malformed_request"),
        ({"dataset": "replies", "agent": "tester", "concurrency": 1000}, 422, "malformed_request"),
    ):
        refused = await platform.author.post(path, json=wanted)
        assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    for eval_id, code in (("eval_01m7zgj9y7ed09zv4adydedhkn", "eval_unknown"), ("guessed", "malformed_id")):
        assert (await platform.author.get(f"{PATH}/offline-evals/{eval_id}")).json()["code"] == code
    over = await platform.author.post(path, json={"dataset": "replies", "agent": "tester"})
    place = over.headers["location"]
    await until_over(platform, place)
    for order in ("cancel", "resume"):
        refused = await platform.author.post(f"{place}/{order}")
        assert (refused.status_code, refused.json()["code"]) == (409, "eval_ended")


async def test_an_eval_that_a_stop_ended_goes_on_when_it_is_lifted(platform: Platform) -> None:
    await platform.apply([DONE], [])
    await platform.author.post(f"{PATH}/datasets", json={"name": "replies", "content": content(GOOD)})
    stop = await platform.admin.post("/api/v1/stops", json={"kind": "kill", "scope": "agent", "target": "tester"})
    assert stop.status_code == 201, stop.text
    started = await platform.author.post(f"{PATH}/offline-evals/run", json={"dataset": "replies", "agent": "tester"})
    place = started.headers["location"]
    failed = await until_over(platform, place)
    assert (failed["status"], failed["problem"]["code"]) == ("failed", "eval_held")
    assert stop.json()["id"] in failed["problem"]["detail"]
    lifted = await platform.admin.delete(f"/api/v1/stops/{stop.json()['id']}")
    assert lifted.status_code == 200, lifted.text
    resumed = await platform.author.post(f"{place}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "running")
    assert (await until_over(platform, place))["status"] == "completed"


async def test_the_command_line_examines_compares_and_exports(shell: Shell, tmp_path: Path) -> None:
    await shell.platform.apply([{"text": "dine"}], [])
    await shell.platform.apply([DONE], [])
    file = tmp_path / "Replies 2026.jsonl"
    file.write_text(content(*(GOOD | {"id": f"c{n}"} for n in range(8)), "{"))
    checked = await shell("eval", "check", str(file), code=2)
    assert (checked["cases"], checked["broken"][0]["line"]) == (8, 9)
    found = await shell("eval", "run", str(file), "--agent", "tester", "--version", "2", "--against", "1")
    assert (found["status"], found["dataset"]) == ("completed", "replies_2026")
    said = found["report"]["comparison"]
    assert (said["pairs"], said["won"], said["lost"]) == (8, 8, 0)
    assert said["scores"]["exact"]["difference"] == 1
    assert said["scores"]["exact"]["p"] == pytest.approx(2 / 2**8)
    assert (await shell("eval", "show", found["id"]))["report"] == found["report"]
    assert [one["id"] for one in (await shell("eval", "list", "--agent", "tester"))["items"]] == [found["id"]]
    assert [one["name"] for one in await shell("eval", "datasets")] == ["replies_2026"]
    assert len((await shell("eval", "cases", found["id"]))["items"]) == 16
    out = tmp_path / "out.json"
    assert (await shell("eval", "export", found["id"], "--output", str(out)))["cases"] == 16
    kept = json.loads(out.read_text())
    assert kept["report"] == found["report"] and len(kept["cases"]) == 16
    assert (await shell("eval", "run", "nowhere.jsonl", "--agent", "tester", code=4))["code"] == "dataset_unknown"
    assert (await shell("eval", "check", str(tmp_path / "nowhere.jsonl"), code=4))["code"] == "file_of_cases_unknown"
    assert (await shell("eval", "cancel", found["id"], code=5))["code"] == "eval_ended"
