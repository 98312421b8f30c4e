"""A viewer meets markers, an operator the values, a model what its version says; what executes is whole."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agentos.adapters.llm import stub
from agentos.control.privacy.service import UNKNOWN
from agentos.runtime.inference import Question
from tests.journeys.conftest import Platform
from tests.journeys.test_identity import facts, key, person
from tests.runtime.runs.harness import DONE, calls, make_skill

CARD = 4111111111111111
EMAIL = "ann.lee@example.com"
TASK = {"task_description": f"Refund {EMAIL} on card {CARD}"}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "x-personal": "name"}, "note": {"type": "string"}},
}
ASKED: list[Question] = []


@stub.behaviour("privacy_pays")
def pays(question: Question) -> Any:
    """Pays once, then says what it was told."""
    ASKED.append(question)
    return calls(("pay", CARD)) if len(question.messages) == 1 else "done"


async def test_a_viewer_sees_markers_where_an_operator_sees_values(platform: Platform) -> None:
    await platform.apply([calls(("pay", CARD)), {"text": f"told {EMAIL}"}], ["pay"], tier="L3")
    run = await platform.run(TASK)
    question = await platform.question(run["id"])
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        asked = await viewer.get(f"/api/v1/approvals/{question['id']}")
        assert asked.json()["arguments"] == {"n": "[REDACTED: CARD]"}
        assert asked.json()["redacted"] is True
        assert asked.headers["x-redacted"] == "CARD=1"
        answer = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
        assert answer.json()["arguments"] == {"n": CARD}
        await platform.until(run["id"], "completed")
        for path in (
            f"runs/{run['id']}",
            f"runs/{run['id']}/journal",
            f"runs/{run['id']}/events",
            f"requests/{run['request_id']}",
            f"approvals?status=all&run={run['id']}",
        ):
            seen, whole = await viewer.get(f"/api/v1/{path}"), await platform.author.get(f"/api/v1/{path}")
            assert seen.status_code == whole.status_code == 200
            assert EMAIL not in seen.text and str(CARD) not in seen.text, path
            assert "REDACTED" not in whole.text and ("approvals" in path or EMAIL in whole.text), path
        shown = (await viewer.get(f"/api/v1/runs/{run['id']}")).json()
    assert shown["input"] == {"task_description": "Refund [REDACTED: EMAIL] on card [REDACTED: CARD]"}
    assert shown["redacted"] == {"CARD": 1, "EMAIL": 2}
    assert shown["id"] == run["id"] and shown["version"] == run["version"]


async def test_drafts_and_what_an_error_repeats_are_masked_for_a_viewer(platform: Platform) -> None:
    await platform.apply([calls(("note", CARD)), DONE], ["note"], tier="L1")
    await platform.until((await platform.run(TASK))["id"], "completed")
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        (draft,) = (await viewer.get("/api/v1/drafts")).json()["items"]
        assert draft["arguments"] == {"n": "[REDACTED: CARD]"}
        refused = await viewer.get(f"/api/v1/runs/{EMAIL}")
        assert refused.status_code == 404
        assert EMAIL not in refused.text
        (key,) = [
            one for one in (await platform.admin.get("/api/v1/keys")).json()["items"] if one["holder"] == "looker"
        ]
        rotated = await viewer.post(f"/api/v1/keys/{key['id']}/rotate", json={})
        assert rotated.json()["secret"].startswith("aos_")  # told once, to whom it belongs


async def test_fields_that_a_schema_annotates_are_masked(platform: Platform) -> None:
    await platform.apply([DONE], [], input={"schema": PERSON})
    run = await platform.run({"name": "Ann Lee", "note": "calls Ann"})
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        shown = (await viewer.get(f"/api/v1/runs/{run['id']}")).json()
    assert shown["input"] == {"name": "[REDACTED: NAME]", "note": "calls Ann"}
    assert (await platform.author.get(f"/api/v1/runs/{run['id']}")).json()["input"]["name"] == "Ann Lee"


def annotated(platform: Platform, name: str, effect: str) -> None:
    """Load a skill whose one argument its schema calls a name, whatever it looks like."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "x-personal": "name"}}}
    made = make_skill(platform.world, name, effect, idempotent=True)
    platform.held.parts.registry.add(replace(made, input_schema=schema))


async def test_whose_key_is_shown_markers_approves_neither_by_the_api_nor_in_a_thread(platform: Platform) -> None:
    annotated(platform, "greet", "S3")
    await platform.apply([calls(("greet", 7)), DONE], ["greet"], tier="L3")
    question = await platform.question((await platform.run())["id"])
    path = f"/api/v1/approvals/{question['id']}"
    scopes = ["read", "approvals.answer", "inbox.write"]
    narrow = (await key(platform, person="approver", scopes=scopes))["secret"]
    async with platform.acting(narrow) as narrowed:
        shown = (await narrowed.get(path)).json()
        assert (shown["arguments"], shown["redacted"]) == ({"n": "[REDACTED: NAME]"}, True)
        refused = await narrowed.post(f"{path}/approve", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "approval_masked")
        async with asyncio.timeout(30):
            while not (
                threads := (await narrowed.get(f"/api/v1/inbox/threads?about={question['id']}")).json()["items"]
            ):
                await asyncio.sleep(0.03)
        number = threads[0]["number"]
        said = await narrowed.post(f"/api/v1/inbox/threads/{number}/messages", json={"text": f"approve {number}"})
        assert said.status_code == 201, said.text
        async with asyncio.timeout(30):
            while not (outcome := await outcomes(narrowed, number)):
                await asyncio.sleep(0.03)
    assert outcome[0].startswith("This did not count: the arguments hold personal data")
    assert (await platform.approver.get(path)).json()["status"] == "pending"
    assert (await platform.approver.post(f"{path}/approve", json={})).json()["status"] == "approved"


async def outcomes(client: httpx.AsyncClient, number: int) -> list[str]:
    messages = (await client.get(f"/api/v1/inbox/threads/{number}/messages")).json()["items"]
    return [one["text"] for one in messages if one["kind"] == "outcome"]


async def test_what_an_order_answers_is_masked_as_what_it_is_about(platform: Platform) -> None:
    annotated(platform, "greet", "S3")
    annotated(platform, "wave", "S1")
    called = [calls(("wave", 7)), calls(("greet", 7)), DONE]
    await platform.apply(called, ["wave", "greet"], tier="L3", input={"schema": PERSON})
    scopes = ["read", "runs.start", "runs.order", "approvals.reroute"]
    narrow = (await key(platform, person="admin", scopes=scopes))["secret"]
    run = await platform.run({"name": "Ann Lee"})
    question = await platform.question(run["id"])
    async with platform.acting(narrow) as narrowed:
        rerouted = await narrowed.post(
            "/api/v1/approvals/reroute", json={"approval": question["id"], "to": ["approver"]}
        )
        assert rerouted.json()["items"][0]["arguments"] == {"n": "[REDACTED: NAME]"}
        for order in ("pause", "resume", "cancel"):
            answer = await narrowed.post(f"/api/v1/runs/{run['id']}/{order}")
            assert answer.json()["input"] == {"name": "[REDACTED: NAME]"}, answer.text
        started = await narrowed.post("/api/v1/runs", json={"agent": "tester", "input": {"name": "Bo Li"}})
        assert started.json()["input"] == {"name": "[REDACTED: NAME]"}


async def test_a_submitted_draft_answers_with_its_run_masked(platform: Platform) -> None:
    await platform.apply([calls(("note", 1)), DONE], ["note"], tier="L1", input={"schema": PERSON})
    await platform.until((await platform.run({"name": "Ann Lee"}))["id"], "completed")
    (draft,) = (await platform.author.get("/api/v1/drafts")).json()["items"]
    narrow = (await key(platform, person="author", scopes=["read", "drafts.submit"]))["secret"]
    async with platform.acting(narrow) as narrowed:
        submitted = await narrowed.post(f"/api/v1/drafts/{draft['id']}/submit")
    assert submitted.json()["input"] == {"name": "[REDACTED: NAME]"}, submitted.text


async def test_what_another_version_annotates_is_masked_and_all_where_no_version_is_loaded(platform: Platform) -> None:
    annotated(platform, "greet", "S3")
    annotated(platform, "wave", "S1")
    await platform.apply([calls(("wave", 7), ("greet", 7)), DONE], ["wave", "greet"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    loaded = platform.held.parts.registry._skills
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        for name in ("greet", "wave"):
            loaded[name, "2"] = replace(loaded.pop((name, "1")), version="2")
        assert await arguments(viewer, question) == [{"n": "[REDACTED: NAME]"}] * 3
        for name in ("greet", "wave"):
            del loaded[name, "2"]
        assert await arguments(viewer, question) == [UNKNOWN] * 3


async def arguments(viewer: httpx.AsyncClient, question: dict[str, Any]) -> list[Any]:
    """What a viewer sees of an approval's arguments, of the model's call and of the intent of another."""
    asked = (await viewer.get(f"/api/v1/approvals/{question['id']}")).json()
    journal = (await viewer.get(f"/api/v1/runs/{question['run_id']}/journal")).json()["items"]
    (model,) = [row for row in journal if row["kind"] == "model"]
    (intent,) = [row for row in journal if row["phase"] == "intent"]
    return [asked["arguments"], model["content"]["calls"][0]["arguments"], intent["content"]]


@pytest.mark.parametrize("mode", ["keep", "mask", "remove"])
async def test_a_model_is_told_what_its_version_says_and_what_executes_is_whole(platform: Platform, mode: str) -> None:
    ASKED.clear()
    paid: list[Any] = []
    platform.world.next("pay", lambda said: paid.append(said["n"]) or {"n": said["n"]})
    model = {"provider": "stub", "behaviour": "privacy_pays"}
    await platform.apply([], ["pay"], tier="L3", model=model, privacy={"prompts": mode})
    run = await platform.run(TASK)
    question = await platform.question(run["id"])
    assert question["arguments"] == {"n": CARD}
    await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    ended = await platform.until(run["id"], "completed")
    told = json.dumps([[one.messages[0].text, str(one.messages[1:])] for one in ASKED])
    assert paid == [CARD]
    assert ended["input"] == TASK
    journal = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
    (intent,) = [row for row in journal if row["phase"] == "intent"]
    assert intent["content"] == {"n": CARD}
    if mode == "keep":
        assert EMAIL in told and str(CARD) in told
        assert await facts(platform, "PersonalDataRedacted") == []
        return
    assert EMAIL not in told and str(CARD) not in told
    assert ("[REDACTED: CARD]" in told) is (mode == "mask")
    (fact,) = await facts(platform, "PersonalDataRedacted")
    assert fact == {"about": run["id"], "place": "prompts", "counts": {"CARD": 3, "EMAIL": 1}}


async def test_an_organization_says_what_is_looked_for_and_only_an_admin_may(platform: Platform) -> None:
    usual = (await platform.author.get("/api/v1/privacy/rules")).json()
    assert (usual["changed_by"], usual["mode"], "ip" in usual["kinds"]) == (None, "mask", False)
    wanted = {"kinds": ["ip"], "modes": {"ip": "remove"}, "template": "<{type}>"}
    assert (await platform.author.put("/api/v1/privacy/rules", json=wanted)).status_code == 403
    changed = await platform.admin.put("/api/v1/privacy/rules", json=wanted)
    assert changed.status_code == 200, changed.text
    assert changed.json()["kinds"] == ["bank_account", "card", "ip", "key", "national_id", "password"]
    await platform.apply([DONE], [])
    run = await platform.run({"task_description": f"{EMAIL} from 10.1.2.3 with {CARD}"})
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        shown = (await viewer.get(f"/api/v1/runs/{run['id']}")).json()
    assert shown["input"] == {"task_description": f"{EMAIL} from  with <CARD>"}
    (fact,) = await facts(platform, "PrivacyRulesChanged")
    assert fact["by"] == "admin"
    hashed = await platform.admin.put("/api/v1/privacy/rules", json={"mode": "hash"})
    assert (hashed.status_code, hashed.json()["code"]) == (409, "privacy_key_missing")
    bad = await platform.admin.put("/api/v1/privacy/rules", json={"template": "gone"})
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_privacy_rules")
