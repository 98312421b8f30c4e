"""``agentos trace``: what came of one request, from the platform's records and from the logs of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.apps.embedded.home import Home
from agentos.apps.home import home_folder
from agentos.kernel.errors import NotFound

_LOG_FIELDS = ("event", "level", "service", "timestamp", "request_id", "org", "exception")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("trace")(trace)


def trace(
    request: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The X-Request-ID of an answer.")],
) -> None:
    """Follow a request through API, workers and journal, in the order of time."""
    try:
        runs = connect().get(f"/api/v1/requests/{request}")["runs"]
    except NotFound:
        runs = []
    lines = [*_recorded(runs), *_logged(request)]
    if not lines:
        raise NotFound(f"nothing is known of a request '{request[:64]}'", then="Ids are in the answers' X-Request-ID.")
    output.show(sorted(lines, key=lambda line: str(line["at"])), columns=("at", "where", "what", "status", "detail"))


def _recorded(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for run in runs:
        yield {"at": run["accepted_at"], "where": run["id"], "what": "accepted", "detail": f"by {run['requested_by']}"}
        for row in run["journal"]:
            what = f"{row['phase']} {row['key']}"
            yield {"at": row["at"], "where": run["id"], "what": what, "status": row["status"], "detail": row["name"]}
        if run["ended_at"]:
            yield {"at": run["ended_at"], "where": run["id"], "what": "ended", "status": run["status"]}


def _logged(request: str) -> Iterator[dict[str, Any]]:
    folder = Home(home_folder()).logs
    for file in sorted(folder.glob("*.log*")) if folder.exists() else ():
        for line in file.open(errors="replace"):
            if request not in line:
                continue
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict) and said.get("request_id") == request:
                more = {name: value for name, value in said.items() if name not in _LOG_FIELDS}
                where, detail = said.get("service", file.stem), json.dumps(more, default=str) if more else ""
                yield {"at": said.get("timestamp"), "where": where, "what": said.get("event"), "detail": detail}
