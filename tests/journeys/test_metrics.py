"""A real Prometheus scrapes a running platform, and the queries that the runbooks print give numbers."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question
from agentos.runtime.inference.model import ModelRejectedRequest
from tests.debian import program
from tests.journeys.conftest import Platform
from tests.runtime.runs.harness import calls

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "prometheus"

# As they stand in runbook 4, "Prometheus Queries".
ERROR_RATE = "rate(aos_llm_errors_total[5m]) / rate(aos_llm_calls_total[5m])"
SKILL_P99 = "histogram_quantile(0.99, rate(aos_skill_duration_seconds_bucket[5m]))"
REGISTRY = "rate(aos_registry_operations_total[1m])"


@behaviour("journeys.metrics")
def every_second_call_fails(question: Question) -> Any:
    """Look, and then be refused."""
    if len(question.messages) > 1:
        raise ModelRejectedRequest("the prompt is refused")
    return calls(("look", 1))


class Prometheus:
    """A real one that scrapes an address every half second."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """The series that an instant query gives, without those that are not a number."""
        answer = (await self._client.get("/api/v1/query", params={"query": promql})).json()
        assert answer["status"] == "success", answer
        found = [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    async def until(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """What the query gives once it gives anything."""
        async with asyncio.timeout(40):
            while not (found := await self.query(promql)):
                await asyncio.sleep(0.2)
        return found


@pytest.fixture
async def prometheus(platform: Platform, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """Prometheus with the shipped configuration, but quicker and looking at this platform."""
    shipped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    shipped["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    shipped["rule_files"] = [str(DEPLOY / one) for one in shipped["rule_files"]]
    (job,) = shipped["scrape_configs"]
    job["static_configs"] = [{"targets": [platform.address.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(shipped))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(program("prometheus")),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            async with asyncio.timeout(30):
                while not await _ready(client):
                    assert running.poll() is None, (tmp_path / "log").read_text()
                    await asyncio.sleep(0.1)
            yield Prometheus(client)
    finally:
        running.kill()
        running.wait()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.debian("prometheus")
async def test_the_queries_of_the_aos_runbook_give_numbers_on_a_running_platform(
    platform: Platform, prometheus: Prometheus
) -> None:
    await platform.apply([], ["look"], model={"provider": "stub", "behaviour": "journeys.metrics"})
    whose = (await platform.author.get("/api/v1/me")).json()["organization"]
    determinism = f'aos_determinism_drift{{org="{whose}"}}'
    for promql in (ERROR_RATE, SKILL_P99, "aos_llm_error_rate", determinism):
        assert await prometheus.query(promql) == [], "nothing was measured yet, and nothing is not a number"

    async def work() -> None:
        await platform.until((await platform.run())["id"], "failed")

    await work()
    await prometheus.until("aos_llm_calls_total")  # a counter's rate takes two scrapes that saw it
    await work()

    ((labels, rate),) = await prometheus.until(f"({ERROR_RATE}) > 0")
    assert rate == pytest.approx(0.5)
    assert (labels["provider"], labels["agent_id"]) == ("stub", "tester")
    ((labels, seconds),) = await prometheus.until(SKILL_P99)
    assert labels["skill"] == "look"
    assert 0 < seconds < 10
    ((_, per_second),) = await prometheus.until(f"({REGISTRY}) > 0")
    assert per_second > 0
    ((_, size),) = await prometheus.until("max(aos_registry_size)")
    assert size > 0

    for recorded in ("aos_llm_error_rate > 0", "aos_llm_latency_p99", "aos_skill_execution_time_p99"):
        ((labels, _),) = await prometheus.until(recorded)
    ((labels, _),) = await prometheus.until('ALERTS{alertname="AosLlmErrorRate"}')
    assert (labels["provider"], labels["alertstate"]) == ("stub", "firing")
    assert await prometheus.query('ALERTS{alertname!="AosLlmErrorRate"}') == []
    assert await prometheus.query(determinism) == [], "no replay was made, so drift is unknown"
