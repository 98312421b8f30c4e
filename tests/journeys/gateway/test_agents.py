"""A run asked as if it were a model."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.journeys.gateway.conftest import GPT, HELLO, WEATHER, House
from tests.runtime.runs.harness import DONE, calls


async def test_an_agent_answers_as_a_model_would(house: House) -> None:
    await house.platform.apply([{"text": "All done."}], [])
    async with house.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(model="agent:tester", messages=HELLO)
        found = raw.parse()
        assert found.choices[0].message.content == "All done."
        assert found.model == "agent:tester"
        run_id = raw.headers["x-agentos-run-id"]
        assert found.id == run_id == (found.model_extra or {})["run_id"]
        assert (found.model_extra or {})["provider"] == "stub"
        assert found.usage is not None
        assert found.usage.prompt_tokens > 0
        names = [one.id async for one in client.models.list()]
        assert {"agent:tester", f"openai/{GPT}", "stub"} <= set(names)
    run = (await house.platform.author.get(f"/api/v1/runs/{run_id}")).json()
    assert run["input"] == {"task_description": "hello"}
    assert run["requested_by"] == "author"
    async with house.anthropic() as other:
        async with other.messages.stream(model="agent:tester", max_tokens=5, messages=HELLO) as stream:
            assert await stream.get_final_text() == "All done."
        assert "agent:tester" in [one.id async for one in other.models.list()]


async def test_the_same_idempotency_key_is_the_same_run_whichever_door_it_came_by(house: House) -> None:
    await house.platform.apply([{"text": "Once."}], [])
    key = {"Idempotency-Key": "k1"}
    first = await house.platform.run({"task_description": "hello"}, **key)
    async with house.openai() as client:
        found = await client.chat.completions.create(model="agent:tester", messages=HELLO, extra_headers=key)
    assert found.id == first["id"]
    assert len((await house.platform.author.get("/api/v1/runs")).json()["items"]) == 1


async def test_the_same_key_is_the_same_run_also_where_another_version_takes_another_input(house: House) -> None:
    task, key = [{"role": "user", "content": '{"n": 1}'}], {"Idempotency-Key": "k3"}
    number = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    words = {"type": "object", "properties": {"task_description": {"type": "string"}}, "additionalProperties": False}
    await house.platform.apply([{"text": "Words."}], [], input={"schema": words})
    async with house.openai() as client:
        first = await client.chat.completions.create(model="agent:tester", messages=task, extra_headers=key)
        await house.platform.apply([{"text": "Numbers."}], [], input={"schema": number})
        (one,) = (await house.platform.author.get("/api/v1/agents/deployments")).json()["items"]
        done = await house.platform.author.post(
            f"/api/v1/agents/deployments/{one['id']}/promote", json={"version": "2"}
        )
        assert done.status_code == 200, done.text
        again = await client.chat.completions.create(model="agent:tester", messages=task, extra_headers=key)
        assert again.id == first.id
        with pytest.raises(openai.BadRequestError, match="another body"):
            other = [{"role": "user", "content": '{"n": 2}'}]
            await client.chat.completions.create(model="agent:tester", messages=other, extra_headers=key)


async def test_a_run_that_waits_for_a_person_is_told_and_a_stream_waits_with_it(house: House) -> None:
    await house.platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    async with house.openai(max_retries=2) as client:
        with pytest.raises(openai.ConflictError, match="a person must approve") as caught:
            await client.chat.completions.create(
                model="agent:tester", messages=HELLO, extra_headers={"Idempotency-Key": "k2"}
            )
        run_id = caught.value.response.headers["x-agentos-run-id"]
        assert len((await house.platform.author.get("/api/v1/runs")).json()["items"]) == 1, "no retry by itself"

        async def streamed() -> str:
            parts = []
            stream = await client.chat.completions.create(
                model="agent:tester", messages=HELLO, stream=True, extra_headers={"Idempotency-Key": "k2"}
            )
            async for chunk in stream:
                assert chunk.id == run_id
                parts += [one.delta.content or "" for one in chunk.choices]
            return "".join(parts)

        waiting = asyncio.create_task(streamed())
        question = await house.platform.question(run_id)
        answer = await house.platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
        assert answer.status_code == 200, answer.text
        assert await waiting == "done"


async def test_an_agent_that_fails_says_so_and_no_stranger_finds_it(house: House) -> None:
    await house.platform.apply([calls(("note", 1)), DONE], ["note"], tier="L0", onDenied="stop")
    async with house.openai() as client:
        with pytest.raises(openai.ConflictError, match="is blocked"):
            await client.chat.completions.create(model="agent:tester", messages=HELLO)
        with pytest.raises(openai.BadRequestError, match="tools"):
            tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
            await client.chat.completions.create(model="agent:tester", messages=HELLO, tools=tools)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="agent:nobody", messages=HELLO)
    async with house.anthropic(await house.platform.stranger()) as other:
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.create(model="agent:tester", max_tokens=5, messages=HELLO)


async def test_personal_data_of_an_agents_output_is_kept_from_a_key_that_may_not_see_it(house: House) -> None:
    await house.platform.apply([{"text": "Write to bob.miller@example.com."}], [])
    machine = (await house.platform.admin.post("/api/v1/keys", json={"machine": "m", "scopes": ["runs.start"]})).json()
    async with house.openai(machine["secret"]) as client, house.openai() as whole:
        found = await client.chat.completions.create(model="agent:tester", messages=HELLO)
        stream = await client.chat.completions.create(model="agent:tester", messages=HELLO, stream=True)
        told = "".join([one.choices[0].delta.content or "" async for one in stream])
        for text_of in (found.choices[0].message.content, told):
            assert text_of is not None
            assert text_of.startswith("Write to ")
            assert "bob.miller" not in text_of
        seen = await whole.chat.completions.create(model="agent:tester", messages=HELLO)
    assert seen.choices[0].message.content == "Write to bob.miller@example.com."
