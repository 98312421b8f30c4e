"""A client that never gives up: the API may be away at any moment, and what it accepted must be accepted once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import aiohttp

PAUSE_SECONDS = 0.1
PATIENCE_SECONDS = 60.0  # an API that is away for so long will not come back
AWAY = (429, 502, 503, 504)


class GaveUp(Exception):
    """The API did not answer in any of the many tries."""


class Refused(Exception):
    """The API answered that this cannot be done."""

    def __init__(self, status: int, said: dict[str, Any]) -> None:
        super().__init__(f"{status} {said.get('code')}: {said.get('detail')}")
        self.status = status
        self.code = str(said.get("code", ""))


class Client:
    """Calls as one person. Every call is repeated until it is answered, so each must be safe to repeat."""

    def __init__(self, address: str, key: str, trouble: Counter[str]) -> None:
        self._address = address
        self._key = key
        self._trouble = trouble  # what kept calls from being answered, counted
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=15))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str, **query: Any) -> Any:
        """GET. Raises Refused, GaveUp."""
        return await self._call("GET", path, None, {}, query)

    async def post(self, path: str, body: Any, *, key: str = "") -> Any:
        """POST, with an Idempotency-Key where one is given. Raises Refused, GaveUp."""
        return await self._call("POST", path, body, {"Idempotency-Key": key} if key else {}, {})

    async def delete(self, path: str) -> Any:
        """DELETE. Raises Refused, GaveUp."""
        return await self._call("DELETE", path, None, {}, {})

    async def every(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a listing, page by page."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get(path, limit=200, cursor=cursor, **query)
            found += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return found

    async def _call(self, method: str, path: str, body: Any, headers: dict[str, str], query: dict[str, Any]) -> Any:
        assert self._session is not None
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                async with self._session.request(
                    method, self._address + path, json=body, headers=headers, params=query
                ) as answer:
                    text = await answer.read()
                    if answer.status < 400:
                        return json.loads(text) if text else None
                    said = json.loads(text)
                    if answer.status == 500:  # a fault of the platform: counted and shown, and asked again
                        self._trouble[f"500 {said.get('code')}"] += 1
                    elif answer.status in AWAY:
                        self._trouble[f"{answer.status} {said.get('code')}"] += 1
                    else:
                        raise Refused(answer.status, said)
            except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
                self._trouble[type(error).__name__] += 1
            if time.monotonic() > limit:
                raise GaveUp(f"{method} {path} was not answered in {PATIENCE_SECONDS:.0f} s")
            await asyncio.sleep(PAUSE_SECONDS)


def keys(home: Path) -> dict[str, str]:
    """The keys of the people that a new home has."""
    found: dict[str, str] = json.loads((home / "credentials").read_text())["keys"]
    return found
