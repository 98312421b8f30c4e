"""``agentos replay`` and ``agentos golden …``: runs executed again, and kept as signed files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import resolve
from agentos.apps.cli.policy import read as read_policy
from agentos.apps.client import connect
from agentos.kernel.errors import AgentOSError, Invalid, exit_code

# Golden files are replayed by the platform's own loop. What that brings in would cost every other command two seconds,
# so the verbs that need it bring it in themselves.


class ReplayRefused(Invalid):
    """A replay was asked for that says too little, or two things at once."""

    code = "replay_refused"


def register(app: typer.Typer) -> None:
    """Add the verbs of replays and golden files."""
    app.command("replay")(replay)
    files = typer.Typer(help="Golden runs: recordings as signed files.", no_args_is_help=True)
    files.command("record")(record)
    files.command("verify")(verify)
    app.add_typer(files, name="golden")


def replay(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")] = "",
    instead: Annotated[
        str, typer.Option("--with", help="version=HASH, model=PROVIDER/NAME or policy=FILE: what would have been.")
    ] = "",
    runs: Annotated[str, typer.Option("--runs", help="With --with: runs to try it on, separated by ','.")] = "",
    deployment: Annotated[
        str, typer.Option("--deployment", "-d", help="With --with: try it on the last runs of this deployment.")
    ] = "",
    last: Annotated[int, typer.Option("--last", help="How many of them.", min=1, max=200)] = 20,
    live: Annotated[bool, typer.Option("--live", help="Let live models be asked, at the organization's cost.")] = False,
) -> None:
    """Execute a run again against its journal, or runs under another version, model or policy. Nothing live happens.

    Ends with 1 when a run parted from its recording.
    """
    client = connect()
    if not instead:
        if not run or runs or deployment:
            raise ReplayRefused("this names no one run", then="Write agentos replay RUN, or use --with.")
        found = client.post(f"/api/v1/runs/{run}/replay")
        output.show(found)
        raise typer.Exit(0 if found["is_equal"] else 1)
    body: dict[str, Any] = {**_instead(instead), "runs": [one for one in (run, *runs.split(",")) if one], "last": last}
    body |= {"live": live, "deployment_id": resolve(client, deployment) if deployment else ""}
    found = client.post("/api/v1/replays/what-if", body)
    if output.as_json:
        output.show(found)
        return
    results = found.pop("results")
    output.show(found)
    output.show("")
    output.show(
        [_short(one) for one in results], columns=("run_id", "outcome", "parted", "micros_more", "left_because")
    )


def record(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")],
    file: Annotated[str, typer.Option("--output", "-o", help="The file to write; else RUN.json.")] = "",
) -> None:
    """Record a run that is over as a golden file, signed with AGENTOS_GOLDEN_KEY. It holds all that the run saw."""
    from agentos.evidence.replay import golden
    from agentos.evidence.replay.recording import Recording
    from agentos.evidence.replay.settings import GoldenSettings

    key = GoldenSettings.read().key.get_secret_value()
    golden.key_id(key)
    recording = Recording.read(connect().get(f"/api/v1/runs/{run}/recording"))
    place = Path(file or f"{run}.json")
    data = golden.written(recording, key)
    try:
        place.write_bytes(data)
    except OSError as error:
        raise golden.GoldenUnreadable(f"the file cannot be written: {error.strerror}", where=str(place)) from None
    output.show({"file": str(place), "content_hash": recording.content.content_hash(), "bytes": len(data)})


def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files, or names in AGENTOS_GOLDEN_FOLDER.")],
) -> None:
    """Check signatures, execute each run again, and compare. No platform is needed. Ends with the first fault."""
    from agentos.evidence.replay import golden
    from agentos.evidence.replay.settings import GoldenSettings
    from agentos.replay import file_of

    settings = GoldenSettings.read()
    rows, worst = [], 0
    for name in files:
        row: dict[str, Any] = {"file": name, "status": "ok"}
        try:
            found = golden.load(file_of(name, settings), settings.key.get_secret_value())
            row |= {"content_hash": found.content_hash, "key": "samples" if found.is_sample else found.key_id}
            asyncio.run(found.replay())
        except AgentOSError as error:
            row |= {"status": error.code, "detail": str(error)}
            worst = worst or exit_code(error)
        rows.append(row)
    output.show(rows, columns=("file", "status", "content_hash", "key", "detail"))
    raise typer.Exit(worst)


def _instead(written: str) -> dict[str, Any]:
    name, sign, value = written.partition("=")
    if name not in ("version", "model", "policy") or not sign or not value:
        raise ReplayRefused(
            f"'{written[:80]}' is nothing to try", then="Write version=HASH, model=PROVIDER/NAME or policy=FILE."
        )
    return {name: read_policy(Path(value)) if name == "policy" else value}


def _short(one: dict[str, Any]) -> dict[str, Any]:
    parted = one["divergence"]
    return one | {"parted": "-" if parted is None else f"{parted['step']} {parted['field']} ({parted['class']})"}
