"""What happened on the platform is in its ledger: found, exported, verified, and asked for what was in force."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from agentos.kernel.clock import now
from agentos.kernel.seals import LedgerKeys, make_key
from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell
from tests.runtime.runs.harness import DONE, calls

AUDIT = "/api/v1/audit"


async def chained(platform: Platform, fact: str, **words: Any) -> list[dict[str, Any]]:
    """The entries of a fact, as soon as there are any."""
    async with asyncio.timeout(10):
        while True:
            found = await platform.admin.get(f"{AUDIT}/entries", params={"fact": fact, **words})
            assert found.status_code == 200, found.text
            if items := found.json()["items"]:
                return list(items)
            await asyncio.sleep(0.05)


async def verified(platform: Platform) -> dict[str, Any]:
    found = await platform.admin.post(f"{AUDIT}/verify", json={})
    assert found.status_code == 200, found.text
    return dict(found.json())


async def test_a_run_is_in_the_ledger_from_its_decision_to_its_effect_and_who_approved_it(platform: Platform) -> None:
    applied = await platform.apply([calls(("look", 1)), calls(("pay", 1)), DONE], ["look", "pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    answered = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert answered.status_code == 200, answered.text
    await platform.until(run["id"], "completed")
    (decided,) = await chained(platform, "ApprovalDecided")
    assert (decided["person"], decided["run_id"]) == ("approver", run["id"])
    await chained(platform, "RunEnded", key=run["id"])
    entries = await chained(platform, "StepsJournaled", run=run["id"])
    steps = [step for entry in reversed(entries) for step in entry["body"]["steps"]]
    paid = [step for step in steps if step["name"] == "pay"]
    assert [(step["kind"], step["phase"]) for step in paid] == [
        ("ask", "result"),
        ("skill", "intent"),
        ("skill", "result"),
    ]
    assert paid[1]["meta"]["approval"] == question["id"]
    assert paid[1]["meta"]["arguments_digest"] == paid[2]["meta"]["arguments_digest"]
    assert paid[1]["idempotency_key"].startswith(run["id"])
    assert all(entry["deployment_id"] == applied["deployment_id"] for entry in entries)
    assert {entry["seal"] for entry in entries} == {"whole"}


async def test_it_verifies_and_names_what_somebody_changed_behind_its_back(
    platform: Platform, database_url: str
) -> None:
    await platform.apply([DONE], [])
    (promoted,) = await chained(platform, "VersionPromoted")
    health = (await platform.admin.get("/health/ledger")).json()
    assert health["unverified_chains"] > 0
    assert health["status"] != "ok"  # nobody has looked yet
    found = await verified(platform)
    assert (found["holds"], found["is_whole"]) == (True, True)
    assert found["entries"] == found["checked"] > 5
    (told,) = await chained(platform, "LedgerVerified")
    assert (told["person"], told["body"]["broken"]) == ("admin", "")
    health = (await platform.admin.get("/health/ledger")).json()
    assert health["verified_seconds_ago"] >= 0
    assert health["unverified_chains"] == health["chains"] - 1
    metrics = (await platform.admin.get("/metrics")).text
    organization = (await platform.admin.get("/api/v1/organization")).json()["org"]
    assert f'agentos_ledger_sound{{org="{organization}",process="agentos"}} 1.0' in metrics
    superuser = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(
        drivername="postgresql", database=make_url(database_url).database
    )
    driver = await asyncpg.connect(superuser.render_as_string(hide_password=False))
    await driver.execute(
        "UPDATE agentos.ledger SET person = 'somebody else' WHERE org = $1 AND number = $2",
        organization,
        promoted["number"],
    )
    await driver.close()
    found = await verified(platform)
    assert found["holds"] is False
    assert (found["broken"]["kind"], found["broken"]["number"]) == ("edit", promoted["number"])
    assert (
        f'agentos_ledger_sound{{org="{organization}",process="agentos"}} 0.0'
        in (await platform.admin.get("/metrics")).text
    )
    assert (await platform.admin.get("/health/ledger")).json()["status"] == "degraded"


async def test_it_is_verified_in_parts_that_only_go_on_from_parts_that_held(platform: Platform) -> None:
    await platform.apply([DONE], [])
    await chained(platform, "VersionPromoted")
    first = (await platform.admin.post(f"{AUDIT}/verify", json={"most": 2})).json()
    assert (first["is_whole"], first["holds"], first["window_entries"]) == (False, True, "unknown")
    rest = (await platform.admin.post(f"{AUDIT}/verify", json={"cursor": first["next_cursor"]})).json()
    assert rest["is_whole"]
    assert rest["checked"] + first["checked"] == rest["entries"]
    forged = await platform.admin.post(f"{AUDIT}/verify", json={"cursor": "Mi5hYmM"})
    assert (forged.status_code, forged.json()["code"]) == (422, "bad_cursor")


async def test_entries_are_paged_exported_as_cloud_events_and_kept_from_who_may_not_see_them(
    platform: Platform,
) -> None:
    await platform.apply([DONE], [])
    await chained(platform, "VersionPromoted")
    pages, cursor = [], ""
    while cursor is not None:
        query = {"limit": 3, "order": "oldest", "form": "cloudevents", "cursor": cursor}
        found = (await platform.admin.get(f"{AUDIT}/entries", params=query)).json()
        pages += found["items"]
        cursor = found["next_cursor"]
    assert [one["ledgernumber"] for one in pages] == list(range(1, len(pages) + 1))
    assert {one["specversion"] for one in pages} == {"1.0"}
    assert "agentos.VersionPromoted" in {one["type"] for one in pages}
    one = await platform.admin.get(f"{AUDIT}/entries/1")
    assert one.json()["number"] == 1
    refused = await platform.author.get(f"{AUDIT}/entries")
    assert refused.status_code == 403
    (told,) = await chained(platform, "AccessRefused")
    assert told["key"]


async def test_what_was_in_force_is_told_for_any_moment(platform: Platform) -> None:
    applied = await platform.apply([DONE], [], tier="L2")
    await chained(platform, "VersionPromoted")
    before = now().isoformat()
    path = f"/api/v1/agents/deployments/{applied['deployment_id']}"
    assert (await platform.author.post(f"{path}/pause")).status_code == 200
    await chained(platform, "DeploymentPaused")
    after = now().isoformat()
    then = (await platform.author.get(f"{AUDIT}/state", params={"at": before})).json()
    place = then["deployments"][applied["deployment_id"]]
    assert (place["version"], place["tier"], place["state"]) == (applied["version"], "L2", "active")
    (change,) = (await platform.author.get(f"{AUDIT}/state/diff", params={"before": before, "after": after})).json()[
        "changes"
    ]
    assert (change["id"], change["after"]["state"]) == (applied["deployment_id"], "paused")
    early = (await platform.author.get(f"{AUDIT}/state", params={"at": "2020-01-01T00:00Z"})).json()
    assert early["deployments"] == "unknown"
    late = await platform.author.get(f"{AUDIT}/state", params={"at": "2100-01-01T00:00Z"})
    assert (late.status_code, late.json()["code"]) == (422, "not_yet")
    assert then["is_complete"] is True
    refused = {
        "state": ({"at": "2026-11-21T03:00"}, {"at": "yesterday"}, {"at": "9" * 40}, {"at": "0000-01-01T00:00Z"}),
        "state/diff": ({"before": after, "after": before}, {"before": "2026-11-21T03:00", "after": after}),
    }
    for door, asked in refused.items():
        for words in asked:
            answer = await platform.author.get(f"{AUDIT}/{door}", params=words)
            assert answer.status_code == 422, (words, answer.text)
            assert answer.json()["code"] in ("malformed_request", "moments_swapped")
    for at in ("0001-01-01T00:00+14:00", "1"):
        assert (await platform.author.get(f"{AUDIT}/state", params={"at": at})).json()["deployments"] == "unknown"


async def test_the_command_line_verifies_searches_exports_and_travels_in_time(
    platform: Platform, tmp_path: Path
) -> None:
    shell = Shell(platform, tmp_path)
    applied = await platform.apply([DONE], [])
    (promoted,) = await chained(platform, "VersionPromoted")
    assert (await shell("audit", "verify", by="admin"))["holds"] is True
    found = await shell("audit", "search", "--fact", "VersionPromoted", "--last", "1h", by="admin")
    assert [one["number"] for one in found] == [promoted["number"]]
    file = tmp_path / "ledger.jsonl"
    told = await shell("audit", "export", "--format", "cloudevents", "-o", str(file), by="admin")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert told["entries"] == len(lines) >= promoted["number"]
    assert lines[promoted["number"] - 1]["data"]["version"] == applied["version"]
    assert applied["deployment_id"] in (await shell("state"))["deployments"]
    moments = ["--diff", "2020-01-01T00:00Z", now().isoformat()]
    assert (await shell("state", *moments))["changes"] == "unknown"
    database, key = platform.held.parts.database, tmp_path / "other.key"
    make_key(key)
    await shell("audit", "rotate-key", "--file", str(key))
    rotated = await shell("audit", "rotate-key", "--file", str(key), "--promote")
    assert (await shell("audit", "rotate-key", "--file", str(key), "--promote", code=5))[
        "code"
    ] == "ledger_key_not_added"
    was, database.ledger_keys = database.ledger_keys, LedgerKeys.load(key)
    assert [one.id for one in database.ledger_keys.every] == [rotated["key_id"], *rotated["others"]]
    refused = await shell("audit", "verify", by="admin", code=5)
    assert (refused["holds"], refused["broken"]) == ("unknown", None)
    assert [(one["key_id"], one["first"]) for one in refused["unread"]] == [(was.now.id if was else "", 1)]
    health = (await platform.admin.get("/health/ledger")).json()
    assert "entries of a chain cannot be verified, as a key is absent" in health["because"]
    database.ledger_keys = was
    await shell("audit", "search", by="author", code=3)
    await shell("state", "--at", "2100-01-01T00:00Z", code=2)
    assert (await shell("state", "--diff", "", now().isoformat(), code=2))["code"] == "state_refused"
    swapped = await shell("state", "--diff", now().isoformat(), "2020-01-01T00:00Z", code=2)
    assert swapped["code"] == "moments_swapped"
