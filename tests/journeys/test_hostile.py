"""Callers who mean harm: each is refused, and nothing of another's is lost, shown, executed or logged."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import structlog
from sqlalchemy import text

from agentos.intake.identity import service as identity
from agentos.intake.identity import store as keys
from agentos.kernel import http
from agentos.kernel.http import MOST_BODY_BYTES, cursor_of
from agentos.kernel.ids import OrgId
from agentos.kernel.nesting import MOST_DEPTH
from agentos.kernel.settings import LogSettings
from agentos.kernel.telemetry import configure_logs
from tests.journeys.conftest import Platform, document, running
from tests.journeys.test_isolation import everything, victim
from tests.runtime.runs.harness import DONE

GO = {"agent": "tester", "input": {"task_description": "go"}}
ESCAPES = [
    "x\r\nX-Forged: 1",
    'x\r\n{"event":"forged"}',
    "x\x1b[2J\x1b]0;owned\x07",
    "x\x85\u2028".encode().decode("latin-1"),
]
INJECTIONS = [
    "'; DROP TABLE agentos.runs; --",
    "' OR '1'='1",
    "1); SELECT pg_sleep(9); --",
    "$$||(SELECT hash FROM keys LIMIT 1)||$$",
    "\\'; SET ROLE agentos_owner; --",
]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["code"])


async def raw(platform: Platform, *lines: str, body: bytes = b"", wait: float = 5) -> tuple[int, bytes]:
    """The status and the rest of what comes back for a request that no client library would send."""
    place = urlsplit(platform.address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write("\r\n".join([*lines, "Host: x", "Connection: close", "", ""]).encode("latin-1") + body)
        await writer.drain()
        said = await asyncio.wait_for(reader.read(), wait)
    finally:
        writer.close()
        await writer.wait_closed()
    return int(said.split(b" ", 2)[1]), said


def bearer(client: httpx.AsyncClient) -> str:
    return f"Authorization: {client.headers['Authorization']}"


async def organization_of(client: httpx.AsyncClient) -> OrgId:
    return OrgId((await client.get("/api/v1/me")).json()["organization"])


async def count(platform: Platform, table: str) -> int:
    async with platform.held.parts.doors.open(await organization_of(platform.admin)) as work:
        row = await work.first(text(f"SELECT count(*) AS n FROM {table}"))
    return int(row.n) if row else 0


@pytest.fixture
async def faulty(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Platform, io.StringIO]]:
    """A platform that makes a mistake when somebody looks at their organization, and what it logs."""
    async with running(database_url, monkeypatch) as platform:
        logged = io.StringIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", logged)
            configure_logs(LogSettings.read(level="INFO"), "tester")
        monkeypatch.setattr(http, "log", structlog.get_logger("fresh"))

        async def fails(_work: object) -> None:
            raise RuntimeError("the inner reason")

        monkeypatch.setattr(identity, "organization", fails)
        yield platform, logged
    configure_logs(LogSettings.read(), "tester")


def lines(logged: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged.getvalue().splitlines()]


OF_REQUESTS = {500: "request_failed", 400: "Invalid HTTP request received."}


def of_requests(logged: io.StringIO) -> list[dict[str, Any]]:
    """The lines of requests: what a service says meanwhile, of a notification for one, is none."""
    return [line for line in lines(logged) if line["event"] in OF_REQUESTS.values()]


@pytest.mark.parametrize("header", ["X-Request-ID", "User-Agent", "Idempotency-Key"])
@pytest.mark.parametrize("value", ESCAPES)
async def test_a_header_cannot_forge_a_line_of_the_log(
    faulty: tuple[Platform, io.StringIO], header: str, value: str
) -> None:
    platform, logged = faulty
    status, said = await raw(
        platform, "GET /api/v1/organization HTTP/1.1", bearer(platform.admin), f"{header}: {value}"
    )
    assert [line["event"] for line in of_requests(logged)] == [OF_REQUESTS[status]]
    assert "forged" not in {line["event"] for line in lines(logged)}
    assert "\x1b" not in logged.getvalue()
    assert b"forged" not in said.lower()


async def test_a_path_cannot_forge_a_line_of_the_log(faulty: tuple[Platform, io.StringIO]) -> None:
    platform, logged = faulty
    await raw(platform, "GET /api/v1/organization%0a%7B%22event%22:1%7D%1b[2J HTTP/1.1", bearer(platform.admin))
    await raw(platform, "GET /api/v1/organization?a=%0a%1b[2J HTTP/1.1", bearer(platform.admin))
    assert [line["event"] for line in of_requests(logged)] == ["request_failed"]


async def test_a_mistake_of_ours_logs_no_key_and_tells_nothing_of_itself(
    faulty: tuple[Platform, io.StringIO],
) -> None:
    platform, logged = faulty
    answer = await platform.admin.get("/api/v1/organization")
    assert code(answer) == (500, "bug")
    assert "inner reason" not in answer.text
    (line,) = of_requests(logged)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert platform.admin.headers["Authorization"].removeprefix("Bearer ") not in logged.getvalue()


@pytest.mark.parametrize("given", ["a" * 65, "a b", "a\t{}", "ü".encode().decode("latin-1"), ""])
async def test_a_request_id_of_another_form_is_replaced(platform: Platform, given: str) -> None:
    _, said = await raw(platform, "GET /health HTTP/1.1", f"X-Request-ID: {given}")
    (line,) = [one for one in said.split(b"\r\n") if one.lower().startswith(b"x-request-id:")]
    assert line.split(b": ")[1].startswith(b"req_")


async def test_a_body_that_says_it_is_too_large_is_not_read(platform: Platform) -> None:
    status, said = await raw(
        platform,
        "POST /api/v1/runs HTTP/1.1",
        bearer(platform.author),
        "Content-Type: application/json",
        f"Content-Length: {MOST_BODY_BYTES + 1}",
        body=b"{",  # and no more of it
    )
    assert status == 413
    assert b"body_too_large" in said


async def test_a_body_in_chunks_is_refused_at_the_limit_and_the_rest_is_not_kept(platform: Platform) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64 * MOST_BODY_BYTES // 65536):
            yield b" " * 65536

    here = psutil.Process()
    before = here.memory_info().rss
    answer = await platform.author.post("/api/v1/runs", content=endless(), headers={"Content-Type": "application/json"})
    assert code(answer) == (413, "body_too_large")
    assert here.memory_info().rss - before < 16 * MOST_BODY_BYTES


@pytest.mark.parametrize("opens", ["[", '{"a":'])
async def test_a_nest_deeper_than_a_parsers_stack_is_malformed(platform: Platform, opens: str) -> None:
    for path, body in (
        ("/api/v1/runs", opens * 100_000),
        ("/api/v1/runs", '{"agent":"tester","input":' + "[" * 900 + "]" * 900 + "}"),
        ("/api/v1/agents", '{"documents":[' + "[" * 90_000),
    ):
        answer = await platform.author.post(path, content=body, headers={"Content-Type": "application/json"})
        assert code(answer) == (422, "malformed_request")


async def test_a_nest_is_taken_up_to_the_limit_and_no_deeper(platform: Platform) -> None:
    await platform.apply([DONE], [], input={"schema": {"type": "object"}})

    def nest(depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(depth - 1):
            found = {"a": found}
        return found

    answer = await platform.author.post("/api/v1/runs", json={"agent": "tester", "input": nest(MOST_DEPTH)})
    assert answer.status_code == 202
    answer = await platform.author.post("/api/v1/runs", json={"agent": "tester", "input": nest(MOST_DEPTH + 1)})
    assert code(answer) == (422, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        b'{"agent": "tester", "input": ' + b"9" * 5000 + b"}",  # more digits than Python reads
        b'{"agent": "tester", "input": {"n": 1e999}}',
        b'{"agent": "tester", "input": {"n": NaN}}',
        b'{"agent": "tester", "input": {"n": 9007199254740993}}',
        b'{"agent": "\xff\xfe", "input": {}}',
        b'{"agent": "\\ud800", "input": {}}',
        b'{"agent": "tester", "input": {"task_description": "\\ud800"}}',
        b'{"agent": "tester", "input": {"task_description": 1}}\x00',
    ],
)
async def test_what_json_cannot_say_is_refused(platform: Platform, body: bytes) -> None:
    await platform.apply([DONE], [], input={"schema": {"type": "object"}})
    answer = await platform.author.post("/api/v1/runs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert await count(platform, "runs") == 0


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
async def test_a_compressed_body_is_not_unpacked(platform: Platform, encoding: str) -> None:
    bomb = gzip.compress(b" " * 500 * 1024 * 1024, 1)[: MOST_BODY_BYTES // 2] if encoding == "gzip" else b"x"
    answer = await platform.author.post(
        "/api/v1/runs", content=bomb, headers={"Content-Type": "application/json", "Content-Encoding": encoding}
    )
    assert code(answer) == (415, "encoding_not_taken")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    async with running(database_url, monkeypatch, body_seconds=0.3) as platform:
        status, said = await raw(
            platform,
            "POST /api/v1/runs HTTP/1.1",
            bearer(platform.author),
            "Content-Type: application/json",
            framing,
            body=b"1\r\n{\r\n",
        )
        assert status == 408
        assert b"body_too_slow" in said


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_headers_that_do_not_come_are_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    async with running(database_url, monkeypatch, header_seconds=0.3) as platform:
        place = urlsplit(platform.address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(sent)
            said = await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()
        assert said.startswith(b"HTTP/1.1 408")


async def test_headers_without_an_end_are_cut(platform: Platform) -> None:
    status, _ = await raw(platform, "GET /health HTTP/1.1", *(f"X-{n}: {'x' * 1000}" for n in range(100)))
    assert status == 431


GUESSES = [
    "/api/v1/../../metrics/x",
    "/api/v1/runs/../keys/../../x",
    "/api/v1/runs/%2e%2e/%2e%2e/etc/passwd",
    "/api/v1/runs/..%2f..%2fkeys",
    "/api/v1/runs//events",
    "/api/v1/runs/run_00000000000000000000000000",
    "/api/v1/runs/RUN_01M7Y3JDHBEYCSE6S7F0X9362P",
    "/api/v1/runs/1",
    "/api/v1/runs/%25",
    "/api/v1/runs/*",
    "/api/v1/agents/tester%20",
    "/api/v1/agents/.env",
    "/api/v1/approvals/run_01m7y3jdhbeycse6s7f0x9362p",
    "/api/v1/requests/%7b%7d",
    "/api/v1/runs/" + "a" * 5000,
    "/.git/config",
    "/static/../../etc/passwd",
]


@pytest.mark.parametrize("path", GUESSES)
async def test_a_guessed_path_or_id_finds_nothing(platform: Platform, path: str) -> None:
    await platform.apply([DONE], [])
    status, said = await raw(platform, f"GET {path} HTTP/1.1", bearer(platform.admin))
    assert status in (404, 422)
    assert b"application/problem+json" in said
    assert b"root:" not in said


async def test_the_ids_of_another_organization_find_nothing_wherever_they_are_named(platform: Platform) -> None:
    ids = await victim(platform)
    async with platform.acting(await platform.stranger()) as stranger:
        manifest = {"documents": [document([DONE], [], tier="L1")]}
        assert (await stranger.post("/api/v1/agents", json=manifest)).status_code == 200
        mine = await stranger.get("/api/v1/agents/deployments")
        (deployment,) = (one["id"] for one in mine.json()["items"])
        listed = [
            ("/api/v1/runs", {"deployment": ids["deployment_id"]}),
            ("/api/v1/approvals", {"run": ids["run_id"], "status": "all"}),
            ("/api/v1/runs", {"cursor": cursor_of(ids["run_id"])}),
            ("/api/v1/drafts", {"cursor": cursor_of(ids["draft_id"][:10]), "status": "all"}),
            ("/api/v1/approvals", {"cursor": cursor_of(ids["approval_id"][:10]), "status": "all"}),
        ]
        for path, params in listed:
            assert (await stranger.get(path, params=params)).json()["items"] == [], path
        promoted = await stranger.post(
            f"/api/v1/agents/deployments/{deployment}/promote", json={"version": ids["version"]}
        )
        own = (await stranger.get("/api/v1/agents/tester")).json()["latest"]
        assert promoted.status_code in (404, 409)
        assert own != ids["version"]
        named = {"agent": "tester", "input": {"task_description": f"{ids['run_id']} {ids['approval_id']}"}}
        run = (await stranger.post("/api/v1/runs", json=named)).json()
        assert run["deployment_id"] == deployment
        for _ in range(200):
            journal = await stranger.get(f"/api/v1/runs/{run['id']}/journal")
            if (await stranger.get(f"/api/v1/runs/{run['id']}")).json()["status"] == "completed":
                break
            await asyncio.sleep(0.05)
        assert ids["request_id"] not in journal.text
    assert (await platform.author.get(f"/api/v1/runs/{ids['run_id']}")).json()["status"] == "waiting_approval"


@pytest.mark.parametrize(
    "cursor",
    ["!!", "=", "YQ==YQ", cursor_of("\0"), "%%%", "a" * 201, "gICA", cursor_of("' OR '1'='1"), cursor_of("-1")],
)
async def test_a_cursor_that_was_not_given_out_shows_nothing_more(platform: Platform, cursor: str) -> None:
    await platform.apply([DONE], [])
    run = await platform.run()
    for path in ("/api/v1/runs", "/api/v1/keys", "/api/v1/people", f"/api/v1/runs/{run['id']}/journal"):
        answer = await platform.admin.get(path, params={"cursor": cursor})
        assert answer.status_code in (200, 422), answer.text
        assert answer.status_code == 200 or answer.json()["code"] in ("bad_cursor", "malformed_request")


async def test_an_idempotency_key_with_another_body_is_refused(platform: Platform) -> None:
    await platform.apply([DONE], [])
    await platform.run(**{"Idempotency-Key": "k"})
    other = GO | {"input": {"task_description": "something else"}}
    answer = await platform.author.post("/api/v1/runs", json=other, headers={"Idempotency-Key": "k"})
    assert code(answer) == (422, "idempotency_key_reused")
    assert await count(platform, "runs") == 1


async def test_twenty_twins_at_once_are_one_run(platform: Platform) -> None:
    await platform.apply([DONE], [])
    twins = await asyncio.gather(*(platform.run(**{"Idempotency-Key": "twin"}) for _ in range(20)))
    assert len({one["id"] for one in twins}) == 1
    assert await count(platform, "runs") == 1


async def test_the_same_idempotency_key_of_another_organization_is_another_request(platform: Platform) -> None:
    await platform.apply([DONE], [])
    run = await platform.run(**{"Idempotency-Key": "shared"})
    async with platform.acting(await platform.stranger()) as stranger:
        await stranger.post("/api/v1/agents", json={"documents": [document([DONE], [])]})
        answer = await stranger.post("/api/v1/runs", json=GO, headers={"Idempotency-Key": "shared"})
    assert answer.status_code == 202
    assert answer.json()["id"] != run["id"]


class Watched(str):
    """A secret that nobody may compare with another."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a secret was compared")

    def __ne__(self, other: object) -> bool:
        raise AssertionError("a secret was compared")


async def test_a_key_is_looked_up_by_the_hash_of_all_of_it_and_never_compared(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], keys.holder

    async def holder(database: Any, hashed: bytes) -> Any:
        asked.append(hashed)
        return await real(database, hashed)

    monkeypatch.setattr(keys, "holder", holder)
    secret = platform.author.headers["Authorization"].removeprefix("Bearer ")
    shown = await identity.shown_by(platform.held.parts.database, Watched(secret))
    assert shown.caller is not None
    assert shown.caller.handle == "author"
    assert asked == [hashlib.sha256(secret.encode()).digest()]


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: k + "a", str.swapcase, lambda k: k[:-1] + "~"])
async def test_a_key_that_is_nearly_right_opens_nothing(platform: Platform, change: Any) -> None:
    secret = platform.author.headers["Authorization"].removeprefix("Bearer ")
    async with platform.acting(change(secret)) as client:
        assert code(await client.get("/api/v1/me")) == (401, "unauthorized")


def filled(schema: dict[str, Any], schemas: dict[str, Any], given: str) -> Any:
    """A value of this schema with the given text wherever a text may stand."""
    if "$ref" in schema:
        return filled(schemas[schema["$ref"].rpartition("/")[2]], schemas, given)
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], schemas, given)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: filled(one, schemas, given) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [filled(schema.get("items", {}), schemas, given)]
        case "string":
            return given
        case "boolean":
            return True
        case "integer":
            return 1
        case _:
            return {given: given}


def requests_with(document: dict[str, Any], given: str) -> Iterator[tuple[str, str, dict[str, str], Any]]:
    """A request to every operation of the document, with the text in every field and parameter that takes one."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = operation.get("parameters", ())
            place = path
            for one in named:
                if one["in"] == "path":
                    place = place.replace("{" + one["name"] + "}", httpx.QueryParams({"x": given}).__str__()[2:])
            query = {one["name"]: given for one in named if one["in"] == "query" and "integer" not in str(one)}
            body = operation.get("requestBody")
            content = body["content"] if body else {}
            schema = content["application/json"]["schema"] if "application/json" in content else None
            yield method.upper(), place, query, schema and filled(schema, document["components"]["schemas"], given)


@pytest.mark.parametrize("given", INJECTIONS)
async def test_sql_in_any_field_or_parameter_is_never_executed(platform: Platform, given: str) -> None:
    ids = await victim(platform)
    organization = await organization_of(platform.admin)
    before = await everything(platform, organization)
    described = (await platform.admin.get("/api/v1/openapi.json")).json()
    asked = 0
    for method, path, query, body in requests_with(described, given):
        began = time.monotonic()
        answer = await platform.admin.request(method, path, params=query, json=body)
        assert answer.status_code < 500 or path == "/health/ready", f"{method} {path}: {answer.text}"
        assert time.monotonic() - began < 8, "it slept as long as the text said"
        # A list that takes no text names what there is, and so does the answer to what would fire.
        takes = query or body or path not in described["paths"]
        if takes and path != "/api/v1/agents/triggers/simulate":
            assert all(one not in answer.text for one in ids.values() if len(one) > 20), f"{method} {path}"
        asked += 1
    assert asked > 40
    assert await everything(platform, organization) == before


@pytest.mark.parametrize("given", INJECTIONS)
async def test_sql_in_what_people_write_is_kept_as_they_wrote_it(platform: Platform, given: str) -> None:
    ids = await victim(platform)
    answered = await platform.approver.post(f"/api/v1/approvals/{ids['approval_id']}/deny", json={"note": given})
    assert answered.status_code == 200
    shown = (await platform.approver.get(f"/api/v1/approvals/{ids['approval_id']}")).json()
    assert [one["note"] for one in shown["answers"]] == [given]
    run = await platform.run({"task_description": given}, **{"Idempotency-Key": given})
    assert (await platform.run({"task_description": given}, **{"Idempotency-Key": given}))["id"] == run["id"]
    assert (await platform.author.get(f"/api/v1/runs/{run['id']}")).json()["input"] == {"task_description": given}
