"""A local receiver of release notes: checks signatures, takes each webhook id once, and resolves links to commits."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

MOST_BYTES: Final = 1024 * 1024


class Receiver:
    """Listens on loopback. ``published`` holds what was taken, ``repeated`` counts ids that came again."""

    def __init__(self, repository: Path) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.published: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.repeated = 0
        self.hold = asyncio.Event()  # cleared: answers wait, as those of a slow receiver do
        self.hold.set()
        self.callers: asyncio.Queue[int] = asyncio.Queue()  # the caller's port of each delivery, before it is answered
        self._repository = repository
        self._commits: set[str] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def hook(self) -> str:
        """Where to publish."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> Self:
        listed = await asyncio.to_thread(_commits, self._repository)
        self._commits = {sha[:12] for sha in listed}
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/hook", self._take)
        app.router.add_get("/c/{short}", self._commit)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.text()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return web.json_response({"error": "the signature does not fit"}, status=401)
        name = request.headers["webhook-id"]
        if name in self.ids:
            self.repeated += 1
        else:
            self.ids.append(name)
            self.published.append(json.loads(body))
        peer = request.transport.get_extra_info("peername") if request.transport else None
        if peer:
            self.callers.put_nowait(peer[1])
        await self.hold.wait()
        return web.json_response({"taken": name})

    async def _commit(self, request: web.Request) -> web.Response:
        short = request.match_info["short"]
        return web.Response(text=short, status=200 if short[:12] in self._commits else 404)


def _commits(repository: Path) -> list[str]:
    done = subprocess.run(  # noqa: S603
        ["git", "-c", f"safe.directory={repository}", "-C", str(repository), "rev-list", "--all"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()
