"""The command line's way to the API: the key and address that ``agentos up`` left, or those of the environment."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from agentos.apps.embedded.home import Home
from agentos.apps.home import credentials_file, home_folder
from agentos.kernel.errors import HTTP_STATUS, KINDS, AgentOSError, Bug, NotFound, Unavailable, every_error

TIMEOUT_SECONDS: Final = 30.0

acting_as = ""  # set once by the root command's --as, before any subcommand runs


class NotRunning(Unavailable):
    """There is no platform to talk to."""

    code = "not_running"


class NoCredentials(NotFound):
    """The command line has no key for the person it is to act as."""

    code = "no_credentials"


class Client:
    """Calls to the API as one person; answers are decoded, problems are raised as the errors that they describe."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address.rstrip("/")
        self._key = key

    def get(self, path: str, **query: Any) -> Any:
        """GET with query parameters; empty ones are left out."""
        asked = {name: value for name, value in query.items() if value not in (None, "")}
        return self._call("GET", f"{path}?{urlencode(asked, doseq=True)}" if asked else path)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """POST a JSON body."""
        return self._call("POST", path, {} if body is None else body, headers)

    def patch(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """PATCH with a JSON body."""
        return self._call("PATCH", path, body, headers)

    def put(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """PUT a JSON body."""
        return self._call("PUT", path, body, headers)

    def delete(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        """DELETE what the path names, with query parameters; empty ones are left out."""
        asked = {name: value for name, value in query.items() if value not in (None, "")}
        return self._call("DELETE", f"{path}?{urlencode(asked)}" if asked else path, None, headers)

    def probe(self, path: str) -> Any:
        """GET a probe, whose answer is the same document whether it is good or not."""
        try:
            with self._opened("GET", path, None, {}) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (name, data), coming back after a broken connection where it stopped."""
        last = ""
        while True:
            try:
                with self._open("GET", path, None, {"Last-Event-ID": last, "Accept": "text/event-stream"}) as stream:
                    name, data = "message", ""
                    for raw in stream:
                        line = raw.decode().rstrip("\r\n")
                        if line.startswith("event:"):
                            name = line[6:].strip()
                        elif line.startswith("data:"):
                            data += line[5:].strip()
                        elif line.startswith("id:"):
                            last = line[3:].strip()
                        elif not line and data:
                            yield name, json.loads(data)
                            name, data = "message", ""
                    return
            except (ConnectionError, TimeoutError):
                continue

    def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        with self._open(method, path, body, headers or {}) as answer:
            text = answer.read()
            found = json.loads(text) if text else None
            etag = answer.headers.get("ETag")
        if etag and isinstance(found, dict):
            found.setdefault("etag", etag.strip('"'))
        return found

    def _open(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        try:
            return self._opened(method, path, body, headers)
        except urllib.error.HTTPError as error:
            raise _problem(error.code, error.read()) from None

    def _opened(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(  # noqa: S310  # the address is the operator's own
            self._address + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                **{name: value for name, value in headers.items() if value},
            },
        )
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError from None
            raise NotRunning(
                f"nothing answers at {self._address}", then="Start the platform with 'agentos up'."
            ) from None


def connect(person: str = "") -> Client:
    """A client for the running platform as this person. Raises NotRunning (Unavailable), NoCredentials (NotFound)."""
    home = Home(home_folder())
    address = os.environ.get("AGENTOS_API") or _address(home)
    key = os.environ.get("AGENTOS_KEY")
    if not key:
        wanted = person or acting_as or os.environ.get("AGENTOS_AS", "admin")
        key = _key(credentials_file(home.path), wanted)
    return Client(address, key)


def _address(home: Home) -> str:
    address = home.state().api
    if not address:
        raise NotRunning(
            f"no platform runs out of {home.path}",
            then="Start it with 'agentos up', or set AGENTOS_API and AGENTOS_KEY.",
        )
    return address


def _key(file: Path, person: str) -> str:
    try:
        keys: dict[str, str] = json.loads(file.read_text())["keys"]
    except (OSError, ValueError, KeyError):
        raise NoCredentials(
            f"no keys in {file}", then="Start the platform with 'agentos up', or set AGENTOS_KEY."
        ) from None
    if person not in keys:
        raise NoCredentials(f"no key for '{person}' in {file}", then=f"Known people: {', '.join(keys)}.")
    return keys[person]


def _problem(status: int, body: bytes) -> AgentOSError:
    """The error that a problem document describes, as the class that carries its code where there is one."""
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    code = str(said.get("code", ""))
    kind = next((one for one in every_error() if getattr(one, "code", None) == code), None)
    if kind is None:
        named = next((one for one in KINDS if one.__name__ == said.get("title")), None)
        kind = named or next((one for one, number in HTTP_STATUS.items() if number == status), Bug)
        kind = type(kind.__name__, (kind,), {"code": code or f"http_{status}"})
    return kind(
        str(said.get("detail", f"the API answered {status}")),
        where=str(said.get("where", "")),
        then=str(said.get("next", "")),
    )
