"""Runs leave evidence; it is found by words and by likeness; and answers say where each sentence is written down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Platform, running
from tests.journeys.test_command_line import Shell
from tests.journeys.test_identity import person
from tests.runtime.runs.harness import DONE, calls

PATH = "/api/v1/agents/evidence"
CARD = 4111111111111111
EMAIL = "ann.lee@example.com"
REPORT = {"body": f"Deployments of the billing service were postponed. Ask {EMAIL}."}


async def published(platform: Platform) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run that read a report and paid after somebody approved it, and the approval."""
    platform.world.next("look", lambda _given: REPORT)
    await platform.apply([calls(("look", 1)), calls(("pay", 7)), DONE], ["look", "pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    answer = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={"note": "fine by me"})
    assert answer.status_code == 200, answer.text
    await platform.until(run["id"], "completed")
    await kept(platform, run["id"])
    return run, question


async def kept(platform: Platform, run_id: str) -> list[dict[str, Any]]:
    """The artifacts of a run, once its output is among them."""
    async with asyncio.timeout(30):
        while True:
            found = (await platform.author.get(f"{PATH}/artifacts", params={"run": run_id})).json()["items"]
            if any(one["kind"] == "output" for one in found):
                return list(found)
            await asyncio.sleep(0.05)


async def ask(platform: Platform, question: str, **more: Any) -> dict[str, Any]:
    answer = await platform.author.post(f"{PATH}/ask", json={"question": question, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    numbers = {one["number"] for one in found["citations"]}
    assert all(one["citations"] and set(one["citations"]) <= numbers for one in found["sentences"])
    return found


async def test_what_a_run_did_is_found_and_the_answer_cites_its_step_and_its_approval(platform: Platform) -> None:
    run, question = await published(platform)
    artifacts = await kept(platform, run["id"])
    assert {one["kind"] for one in artifacts} == {"input", "read", "effect", "result", "answer", "output"}
    (read,) = [one for one in artifacts if one["kind"] == "read"]
    assert (read["step"], read["name"], read["effect"], read["agent_id"]) == ("t0.c0", "look", "S0", "tester")

    by_words = (await platform.author.get(f"{PATH}/search", params={"q": "billing postponed"})).json()
    assert by_words["items"][0]["digest"] == read["digest"]
    assert "«billing»" in by_words["items"][0]["snippet"]
    by_likeness = (await platform.author.get(f"{PATH}/search", params={"q": "postponing a deployment"})).json()
    assert by_likeness["items"][0]["digest"] == read["digest"]
    assert "likeness" in by_likeness["items"][0]["found_by"]
    whole = (await platform.author.get(f"{PATH}/artifacts/{read['digest']}")).json()
    assert whole["content"] == REPORT and whole["uses"][0]["run_id"] == run["id"]

    found = await ask(platform, "what did tester do today, and who approved it")
    assert found["answered_by"] == "extraction"
    effect, approval = (
        next(one for one in found["citations"] if one["sort"] == sort) for sort in ("effect", "approval")
    )
    assert (effect["run_id"], effect["step"], effect["approval_id"]) == (run["id"], "t1.c0", question["id"])
    assert effect["quote"] == "n: 7"
    assert (approval["approval_id"], approval["quote"]) == (question["id"], "approver: fine by me")
    assert "approver approved pay of tester" in found["answer"]
    assert (await ask(platform, "what did tester publish before yesterday"))["answer"] == "unknown"
    nothing = await ask(platform, "what did ghost_agent publish")
    assert (nothing["answer"], nothing["searched"]["unknown_agents"]) == ("unknown", ["ghost_agent"])
    metrics = (await platform.nobody.get("/metrics")).text
    assert 'agentos_evidence_searches_total{kind="ask"' in metrics
    assert "agentos_evidence_search_duration_seconds" in metrics


async def test_a_viewer_neither_sees_nor_finds_personal_data(platform: Platform) -> None:
    await published(platform)
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        asked = await viewer.post(f"{PATH}/ask", json={"question": f"what was sent to {EMAIL}"})
        assert asked.status_code == 403
        refused = await viewer.get(f"{PATH}/search", params={"q": EMAIL})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        for path, params in (("search", {"q": "billing postponed"}), ("artifacts", {"kind": "read"})):
            seen = await viewer.get(f"{PATH}/{path}", params=params)
            assert seen.json()["items"] and EMAIL not in seen.text
        digest = (await viewer.get(f"{PATH}/artifacts", params={"kind": "read"})).json()["items"][0]["digest"]
        shown = await viewer.get(f"{PATH}/artifacts/{digest}")
        assert "[REDACTED: EMAIL]" in shown.text and EMAIL not in shown.text
        told = await viewer.post(f"{PATH}/ask", json={"question": "anything about billing"})
        assert told.json()["sentences"] and EMAIL not in told.text
    whole = await ask(platform, "anything about billing")
    assert EMAIL in json.dumps(whole)


async def test_search_and_questions_go_on_under_every_stop(platform: Platform) -> None:
    run, _ = await published(platform)
    for order in (
        {"kind": "degrade", "scope": "organization"},
        {"kind": "pause", "scope": "organization"},
        {"kind": "kill", "scope": "organization"},
    ):
        answer = await platform.admin.post("/api/v1/stops", json=order)
        assert answer.status_code == 201, answer.text
        found = await platform.author.get(f"{PATH}/search", params={"q": "billing"})
        assert found.json()["items"][0]["run_id"] == run["id"]
        assert run["id"] in (await ask(platform, "what did tester do today"))["answer"]
    assert "of the organization" in (await ask(platform, "who ordered a stop, a kill or a pause"))["answer"]


async def test_with_live_adapters_disabled_the_record_answers_and_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISABLE_LIVE_ADAPTERS", "true")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "never-used")
    monkeypatch.setenv("AGENTOS_EVIDENCE_MODEL", "claude/claude-sonnet-4-5")
    monkeypatch.setenv("AGENTOS_EMBEDDINGS_URL", "http://127.0.0.1:9/v1")
    async with running(database_url, monkeypatch) as platform:
        run, _ = await published(platform)
        found = await ask(platform, "what did tester do today")
        assert (found["answered_by"], found["instead_of"]["model"]) == ("extraction", "claude/claude-sonnet-4-5")
        assert "DISABLE_LIVE_ADAPTERS" in found["instead_of"]["why"]
        assert run["id"] in found["answer"]
        looked = (await platform.author.get(f"{PATH}/search", params={"q": "billing"})).json()
        assert looked["items"] and looked["searched"]["because"] == "embeddings_unavailable"
        assert (await ask(platform, "what did tester do", extract=True))["instead_of"] is None


async def test_a_page_goes_on_where_the_one_before_ended(platform: Platform) -> None:
    run, _ = await published(platform)
    seen, cursor = [], ""
    while True:
        page = (await platform.author.get(f"{PATH}/artifacts", params={"limit": 2, "cursor": cursor})).json()
        seen += [(one["run_id"], one["step"], one["kind"]) for one in page["items"]]
        if not (cursor := page["next_cursor"]):
            break
    assert len(seen) == len(set(seen)) == len(await kept(platform, run["id"]))


async def test_the_command_line_searches_lists_shows_and_asks(platform: Platform, tmp_path: Path) -> None:
    run, question = await published(platform)
    shell = Shell(platform, tmp_path)
    found = await shell("evidence", "search", "billing", "--since", "1h", "--kind", "read")
    (one,) = found["items"]
    shown = await shell("evidence", "show", one["digest"])
    assert shown["content"] == REPORT
    listed = await shell("evidence", "list", "--run", run["id"])
    assert len(listed["items"]) > 4
    told = await shell("ask", "what did tester do today, and who approved it")
    assert question["id"] in told["answer"]
