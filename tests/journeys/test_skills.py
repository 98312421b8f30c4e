"""Skills through the API and the command line: registered, resolved, compared, exported, and put back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from agentos.kernel.canonical import digest
from agentos.runtime.skills import Skill
from tests.journeys.conftest import Platform, document
from tests.journeys.test_command_line import Shell, shell
from tests.runtime.runs.harness import DONE, calls

__all__ = ["shell"]  # a fixture


def another(platform: Platform, version: str, **change: Any) -> Skill:
    """Another version of ``note``, loaded beside the first."""
    first = platform.held.parts.registry.get("note", "1")
    made = replace(first, version=version, digest=digest(["note", version, sorted(change)]), **change)
    platform.held.parts.registry.add(made)
    return made


async def apply(platform: Platform, wanted: str, number: int) -> dict[str, Any]:
    body = document([DONE], [], instructions=f"Note {number}.")
    body["spec"]["skills"] = [f"note@{wanted}"]
    answer = await platform.author.post("/api/v1/agents", json={"documents": [body]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["applied"][0]
    return found


async def test_a_range_is_pinned_and_a_breaking_version_serves_only_by_word(platform: Platform) -> None:
    first = await apply(platform, "^1", 1)
    schema = platform.held.parts.registry.get("note", "1").input_schema
    narrow = schema | {"required": ["n"]}
    another(platform, "2.0.0", input_schema=narrow, timeout=timedelta(seconds=7))
    second = await apply(platform, "latest", 2)
    shown = await platform.author.get(f"/api/v1/agents/tester/versions/{second['version']}")
    assert [one["version"] for one in shown.json()["definition"]["skills"]] == ["2.0.0"]
    path = f"/api/v1/agents/deployments/{first['deployment_id']}/promote"
    refused = await platform.author.post(path, json={"version": second["version"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "skill_contract_broken")
    assert "note 1 → 2.0.0: input.n: is required now" in refused.json()["detail"]
    accepted = await platform.author.post(path, json={"version": second["version"], "accept_breaking": True})
    assert accepted.status_code == 200, accepted.text
    assert "accepting broken contracts" in accepted.json()["history"][0]["reason"]
    assert (await platform.author.post(path.replace("promote", "rollback"), json={})).status_code == 200


async def test_skills_are_listed_resolved_and_compared(platform: Platform, shell: Shell) -> None:
    another(platform, "1.5.0", idempotent=False)
    await platform.held.keeper.look()
    listed = {(one["name"], one["version"]): one for one in await shell("skills", "list")}
    assert listed["note", "1"]["state"] == "served"
    assert {"git_log", "read_file", "webhook_send"} <= {name for name, _version in listed}
    assert "1.5.0" in [one["version"] for one in (await shell("skills", "show", "note"))["versions"]]
    assert (await shell("skills", "resolve", "note", "~1.5"))["version"] == "1.5.0"
    assert (await shell("skills", "resolve", "note", "^7", code=4))["code"] == "skill_unknown"
    assert (await shell("skills", "resolve", "note", "^x", code=2))["code"] == "skill_version_malformed"
    told = await shell("skills", "diff", "note", "1", "1.5.0", code=5)
    assert told["breaking"] == ["idempotent: not promised any more"]
    assert (await shell("skills", "diff", "note", "1.5.0", "1"))["breaking"] == []
    health = (await platform.nobody.get("/health/registry")).json()
    assert (health["read_only"], health["withheld"]) == (False, 0)
    page = (await platform.nobody.get("/metrics")).text
    assert "aos_registry_size" in page
    assert 'aos_registry_operations_total{operation="registered"' in page


async def test_a_skill_that_changed_is_told_and_not_served(platform: Platform, shell: Shell) -> None:
    registry = platform.held.parts.registry
    await platform.held.keeper.look()
    registry._skills["look", "1"] = replace(registry.get("look", "1"), digest="sha256:" + "0" * 64)
    await platform.held.keeper.look()
    answer = await platform.author.post(
        "/api/v1/agents", json={"documents": [document([calls(("look", 1))], ["look"])]}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "skill_withheld")
    (withheld,) = (await shell("registry", "status", code=5))["withheld"]
    assert (withheld["name"], withheld["version"]) == ("look", "1")
    assert (await platform.nobody.get("/health/registry")).json()["status"] == "degraded"


async def test_the_registry_is_exported_verified_and_put_back(
    platform: Platform, shell: Shell, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    await platform.held.keeper.look()
    file = tmp_path / "registry.json"
    assert (await shell("registry", "export", "-o", str(file)))["skills"] > 5
    assert (await shell("registry", "verify", str(file)))["differing"] == 0
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(database=make_url(database_url).database)
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    await connection.execute("UPDATE agentos.skills SET contract = '{}' WHERE name = 'git_log'")
    await connection.execute("DELETE FROM agentos.skills WHERE name = 'read_file'")
    await connection.close()
    assert (await shell("registry", "export", code=5))["code"] == "registry_corrupt"
    found = (await shell("registry", "verify", str(file), code=5))["differences"]
    assert {(one["name"], one["differs"]) for one in found} == {
        ("git_log", "the registry's row is not as it was registered"),
        ("read_file", "missing in the registry"),
    }
    assert (await shell("registry", "restore", str(file), "--dry-run"))["restored"] == 2
    monkeypatch.setenv("REGISTRY_READ_ONLY", "true")
    assert (await shell("registry", "restore", str(file), code=5))["code"] == "registry_read_only"
    monkeypatch.delenv("REGISTRY_READ_ONLY")
    done = await shell("registry", "restore", str(file))
    assert {(one["name"], one["did"]) for one in done["changes"]} == {("git_log", "mended"), ("read_file", "put_back")}
    assert (await shell("registry", "verify", str(file)))["differing"] == 0
    document = json.loads(file.read_text())
    document["skills"].pop()
    file.write_text(json.dumps(document))
    assert (await shell("registry", "restore", str(file), code=2))["code"] == "signature_wrong"
