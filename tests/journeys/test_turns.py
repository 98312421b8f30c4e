"""At the door of a real API: a noisy organization waits for itself, and streams keep nobody out."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from agentos.control.deployments import service as deployments
from tests.journeys.conftest import Platform, running
from tests.runtime.runs.harness import DONE, calls


async def test_a_noisy_organization_fills_its_own_queue_and_keeps_nobody_else_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOS_REQUEST_AT_ONCE_EACH", "1")
    monkeypatch.setenv("AGENTOS_REQUEST_WAITING", "2")
    held, real = asyncio.Event(), deployments.list_deployments

    async def slow(*arguments: object, **values: object) -> object:
        await held.wait()
        return await real(*arguments, **values)  # type: ignore[arg-type]

    async with running(database_url, monkeypatch) as platform, platform.acting(await platform.stranger()) as other:
        with monkeypatch.context() as patched:
            patched.setattr(deployments, "list_deployments", slow)
            noise = [asyncio.create_task(platform.author.get("/api/v1/agents/deployments")) for _ in range(6)]
            done, waiting = await asyncio.wait(noise, timeout=2, return_when=asyncio.ALL_COMPLETED)
            assert (await other.get("/api/v1/me")).status_code == 200
            held.set()
            await asyncio.gather(*waiting)
        refused = [task.result() for task in done]
        assert [(one.status_code, one.json()["code"]) for one in refused] == [(503, "too_many_waiting")] * 3
        assert {one.headers["retry-after"] for one in refused} == {"1"}
        assert Counter(task.result().status_code for task in noise) == {200: 3, 503: 3}
        assert (await platform.author.get("/api/v1/agents/deployments")).status_code == 200  # all places came back


async def test_a_stream_that_is_followed_takes_no_place(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOS_REQUEST_AT_ONCE", "1")
    async with running(database_url, monkeypatch) as platform:
        await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
        run = await platform.run()
        async with platform.author.stream("GET", f"/api/v1/runs/{run['id']}/events") as stream:
            assert stream.status_code == 200
            answer = await asyncio.wait_for(platform.author.get("/api/v1/me"), 10)
            assert answer.status_code == 200
            await platform.author.post(f"/api/v1/runs/{run['id']}/cancel", json={})
            assert "cancelled" in "".join([line async for line in stream.aiter_lines()])


async def test_whoever_is_refused_gives_their_place_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOS_REQUEST_AT_ONCE", "1")
    async with running(database_url, monkeypatch) as platform:
        for _ in range(3):
            assert (await platform.approver.post("/api/v1/runs", json={"agent": "x", "input": {}})).status_code == 403
            assert (await platform.author.get("/api/v1/runs/run_x")).status_code == 404
            assert (await platform.author.post("/api/v1/runs", json={"agnet": "x"})).status_code == 422
        assert await served(platform) == 200


async def served(platform: Platform) -> int:
    return (await asyncio.wait_for(platform.author.get("/api/v1/me"), 10)).status_code
