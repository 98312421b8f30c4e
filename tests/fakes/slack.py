"""Slack's Web API on a socket: it refuses what Slack refuses, keeps what it took, and presses buttons signed as Slack
signs. Written from Slack's documentation, not from our adapter."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from aiohttp import web

from tests.fakes.serving import serving

TEAM, TOKEN, SIGNING = "T0JOURNEY", "xoxb-slack-token", "8f742231b10e8888abcd99yyyzzz85a5"


@dataclass
class Slack:
    """What was posted, by (channel, ts), and what it answers next instead."""

    url: str = ""
    team: str = TEAM
    token: str = TOKEN
    posts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    instead: list[Callable[[], web.StreamResponse]] = field(default_factory=list)

    async def post(self, request: web.Request) -> web.StreamResponse:
        said = await self._said(request)
        if isinstance(said, web.StreamResponse):
            return said
        if not said["channel"].startswith(("C", "D", "U")):
            return failed("channel_not_found")
        channel, ts = said["channel"].replace("U", "D", 1), f"{1700000000 + len(self.posts)}.000100"
        self.posts[channel, ts] = said
        return web.json_response({"ok": True, "channel": channel, "ts": ts, "message": {"text": said["text"]}})

    async def update(self, request: web.Request) -> web.StreamResponse:
        said = await self._said(request)
        if isinstance(said, web.StreamResponse):
            return said
        if (said["channel"], said["ts"]) not in self.posts:
            return failed("message_not_found")
        self.posts[said["channel"], said["ts"]] = said
        self.updates.append(said)
        return web.json_response({"ok": True, "channel": said["channel"], "ts": said["ts"], "text": said["text"]})

    async def _said(self, request: web.Request) -> dict[str, Any] | web.StreamResponse:
        self.calls += 1
        if self.instead:
            return self.instead.pop(0)()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return failed("invalid_auth")
        if request.content_type != "application/json":
            return failed("invalid_post_type")
        said: dict[str, Any] = await request.json()
        return said if acceptable(said.get("blocks", [])) else failed("invalid_blocks")

    def to(self, user: str) -> list[dict[str, Any]]:
        """What was posted to this user, oldest first, as it stands now."""
        return [said for (channel, _), said in self.posts.items() if channel == user.replace("U", "D", 1)]

    def press(self, user: str, choice: str, value: str, *, team: str = "", pressed_at: str = "") -> bytes:
        """The body that Slack sends when somebody presses a button."""
        payload = {
            "type": "block_actions",
            "user": {"id": user, "username": user.lower(), "team_id": team or self.team},
            "api_app_id": "A0APP",
            "team": {"id": team or self.team, "domain": "journeys"},
            "container": {
                "type": "message",
                "message_ts": "1700000000.000100",
                "channel_id": "D0",
                "is_ephemeral": False,
            },
            "trigger_id": "13345224609.738474920.8088930838d88f008e0",
            "channel": {"id": "D0", "name": "directmessage"},
            "message": {"type": "message", "ts": "1700000000.000100", "text": "…"},
            "response_url": "https://hooks.slack.com/actions/T0/1/x",
            "actions": [
                {
                    "type": "button",
                    "action_id": choice,
                    "block_id": "b1",
                    "text": {"type": "plain_text", "text": choice, "emoji": False},
                    "value": value,
                    "action_ts": pressed_at or f"{time.time():.6f}",
                }
            ],
        }
        return urlencode({"payload": json.dumps(payload)}).encode()


def signed(body: bytes, *, secret: str = SIGNING, at: float | None = None) -> dict[str, str]:
    """The headers that Slack sends with a body."""
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={mac}",
    }


async def send(client: httpx.AsyncClient, body: bytes, **how: Any) -> httpx.Response:
    """Send what was pressed to the platform, as Slack does."""
    return await client.post("/api/v1/inbox/slack", content=body, headers=signed(body, **how))


def buttons(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A message's buttons by what they do."""
    rows = [block["elements"] for block in said["blocks"] if block["type"] == "actions"]
    return {one["action_id"]: one for row in rows for one in row}


def failed(error: str) -> web.Response:
    """How Slack says no: with status 200."""
    return web.json_response({"ok": False, "error": error})


def limited(seconds: int) -> web.Response:
    """How Slack says not now."""
    return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(seconds)})


def acceptable(blocks: list[dict[str, Any]]) -> bool:
    """Whether the blocks are within Slack's limits."""
    if not 0 < len(blocks) <= 50:
        return False
    for block in blocks:
        match block["type"]:
            case "header":
                good = block["text"]["type"] == "plain_text" and 0 < len(block["text"]["text"]) <= 150
            case "section":
                good = block["text"]["type"] in ("plain_text", "mrkdwn") and 0 < len(block["text"]["text"]) <= 3000
            case "rich_text":
                good = all(one["type"] == "rich_text_preformatted" and one["elements"] for one in block["elements"])
            case "actions":
                good = 0 < len(block["elements"]) <= 25 and all(map(_button, block["elements"]))
            case _:
                good = False
        if not good:
            return False
    return True


def _button(one: dict[str, Any]) -> bool:
    return (
        one["type"] == "button"
        and 0 < len(one["text"]["text"]) <= 75
        and len(one["action_id"]) <= 255
        and len(one.get("value", "")) <= 2000
        and len(one.get("url", "")) <= 3000
        and one.get("style") in (None, "primary", "danger")
    )


@asynccontextmanager
async def slack(team: str = TEAM) -> AsyncIterator[Slack]:
    """Slack on a port of its own."""
    one = Slack(team=team)
    async with serving(web.post("/api/chat.postMessage", one.post), web.post("/api/chat.update", one.update)) as port:
        one.url = f"http://127.0.0.1:{port}/api/"
        yield one
