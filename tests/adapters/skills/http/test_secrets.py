"""A secret goes to listed hosts alone, and no form of it comes back."""

from __future__ import annotations

import base64
import gzip
import html
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web

from agentos.adapters.skills.fetching import EgressForbidden, HttpHeaderRefused, SecretNotSent
from tests.adapters.skills.http.conftest import Call, Host, answering


async def test_a_secret_is_sent_and_never_told(get: Call, host: Host) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        said = request.headers["authorization"]
        return web.Response(text=f"you said {said}", headers={"link": said})

    host.answers["/echo"] = echo
    given = {"headers": {"Authorization": "Bearer secret://api"}, "with_secret": lambda _name: "s3cr3t"}
    found = await get(host.url("/echo"), **given)
    assert host.asked[0][2]["authorization"] == "Bearer s3cr3t"
    assert found["body"] == "you said Bearer secret://api"
    assert "s3cr3t" not in json.dumps(found)


HELD = 'pa"ss/wörd & more+1'


@pytest.mark.parametrize("name", ["json", "json ascii", "percent", "form", "html", "hex", "base64", "basic", "url64"])
async def test_a_secret_that_comes_back_in_another_form_is_not_told(get: Call, host: Host, name: str) -> None:
    basic = base64.b64encode(f"user:{HELD}".encode()).decode()
    said = {
        "json": json.dumps({"a": HELD}, ensure_ascii=False),
        "json ascii": json.dumps({"a": HELD}).replace("/", "\\/"),
        "percent": quote(HELD, safe="").lower(),
        "form": quote_plus(HELD),
        "html": html.escape(HELD),
        "hex": HELD.encode().hex(),
        "base64": base64.b64encode(HELD.encode()).decode(),
        "basic": basic,
        "url64": base64.urlsafe_b64encode(b"x:" + HELD.encode()).decode(),
    }[name]
    given = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: HELD}
    url = host.says("/x", text=f"<{said}>", headers={"link": quote(HELD)})
    found = await get(url, **given)
    assert "secret://api" in found["body"]
    assert said not in found["body"]
    assert found["headers"]["link"] == "secret://api"


async def test_a_secret_in_an_answer_that_is_no_text_or_compressed_is_not_told(get: Call, host: Host) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    for data in (b"\0\1s3cr3t-token\2", b"\0" + "s3cr3t-token".encode("utf-16-le")):
        found = await get(host.says("/x", body=data, content_type="application/octet-stream"), **given)
        assert found["encoding"] == "base64"
        assert b"secret://api" in base64.b64decode(found["body"])
        assert b"token" not in base64.b64decode(found["body"]).replace(b"\0", b"")
    packed = host.says("/z", body=gzip.compress(b"s3cr3t-token"), headers={"content-encoding": "gzip"})
    found = await get(packed, **given)
    assert (found["body"], found["encoding"]) == ("", "withheld")
    assert (await get(packed))["encoding"] == "base64"


@pytest.mark.parametrize("most", range(9, 22))
async def test_a_secret_that_the_end_of_an_answer_cuts_is_not_told(get: Call, host: Host, most: int) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    found = await get(host.says("/x", text="you said s3cr3t-token, did you"), max_bytes=most, **given)
    assert "s3cr" not in found["body"]
    binary = host.says("/b", body=b"\0you said s3cr3t-token, did you", content_type="application/octet-stream")
    assert b"s3cr" not in base64.b64decode((await get(binary, max_bytes=most + 1, **given))["body"])


async def test_a_secret_in_the_address_of_a_redirect_is_not_told(get: Call, host: Host) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t-token"}
    host.says("/b", text="")
    found = await get(host.says("/a", status=302, headers={"location": "/b?t=s3cr3t-token"}), **given)
    assert found["url"].endswith("/b?t=secret://api")
    with pytest.raises(EgressForbidden) as refused:
        await get(host.says("/c", status=302, headers={"location": "http://s3cr3t-token.example/"}), **given)
    assert "s3cr3t" not in str(refused.value)


async def test_a_secret_goes_only_to_hosts_that_are_listed_by_name_and_only_encrypted(
    get: Call, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"headers": {"x-key": "secret://api"}, "with_secret": lambda _name: "s3cr3t"}
    with pytest.raises(SecretNotSent, match="listed by name"):
        await get(host.url(), with_egress=("*",), **given)
    answering(monkeypatch, ["8.8.8.8"])
    with pytest.raises(SecretNotSent, match="encrypted only"):
        await get("http://api.example/", with_egress=("api.example",), with_hosts=(), **given)
    assert host.asked == []


async def test_a_secret_cannot_smuggle_a_header(get: Call, host: Host) -> None:
    with pytest.raises(HttpHeaderRefused) as told:
        await get(host.url(), headers={"x": "secret://api"}, with_secret=lambda _name: "a\r\nhost: evil")
    assert "evil" not in str(told.value)
