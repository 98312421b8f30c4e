"""A viewer meets markers, an operator the values, a model what its version says; what executes is whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentos.adapters.llm import stub
from agentos.runtime.inference import Question
from tests.journeys.conftest import Platform
from tests.journeys.test_identity import facts, person
from tests.runtime.runs.harness import DONE, calls

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
