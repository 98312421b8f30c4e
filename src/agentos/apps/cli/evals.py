"""``agentos eval …``: data sets, and versions examined on them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.client import Client, connect
from agentos.evidence.evals.model import CONCURRENCY, MOST_CONCURRENCY, MOST_FILE_BYTES, MOST_REPEATS
from agentos.kernel.errors import Invalid, NotFound

EvalId = Annotated[str, typer.Argument(metavar="EVAL", help="An eval's id.")]

_PATH: Final = "/api/v1/agents/quality"
_LOOK_SECONDS: Final = 0.2
_LONGEST_LOOK_SECONDS: Final = 2.0


class DatasetUnreadable(Invalid):
    """A file of cases that cannot be read, or an export that cannot be written."""

    code = "dataset_unreadable"


class FileOfCasesUnknown(NotFound):
    """No such file."""

    code = "file_of_cases_unknown"


def register(app: typer.Typer) -> None:
    """Add the verbs of evals."""
    verbs = typer.Typer(help="Evals: versions examined on data sets.", no_args_is_help=True)
    verbs.command("list")(list_evals)
    verbs.command("datasets")(list_datasets)
    for verb in (run, check, add, show, cases, cancel, resume, export):
        verbs.command(verb.__name__)(verb)
    app.add_typer(verbs, name="eval")


def run(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A file of cases (JSON Lines), or a data set.")],
    agent: Annotated[str, typer.Option("--agent", "-a", help="The agent.")],
    version: Annotated[str, typer.Option("--version", help="A hash, its beginning, or a number; else the last.")] = "",
    against: Annotated[str, typer.Option("--against", help="Another version, to compare with.")] = "",
    repeats: Annotated[
        int, typer.Option("--repeats", help="How often each case is executed.", min=1, max=MOST_REPEATS)
    ] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", help="Cases under way at once.", min=1, max=MOST_CONCURRENCY)
    ] = CONCURRENCY,
    name: Annotated[str, typer.Option("--name", help="The data set's name, where a file is given.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for its end.")] = False,
) -> None:
    """Examine a version on a data set, and wait for the report. Effects become drafts; models are asked.

    Ends with 1 when the eval failed or was cancelled.
    """
    client = connect()
    if Path(dataset).is_file():
        added = _add(client, Path(dataset), name)
        chosen = {"dataset": added["name"], "dataset_hash": added["hash"]}
    else:
        chosen = {"dataset": dataset}
    wanted = {"agent": agent, "version": version, "against": against, "repeats": repeats, "concurrency": concurrency}
    found = client.post(f"{_PATH}/offline-evals/run", chosen | wanted)
    if no_wait:
        output.show(found)
        return
    _show_end(_wait(client, found))


def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of cases (JSON Lines).")]) -> None:
    """Read a file of cases and name its broken lines. No platform is needed. Ends with 2 when there are any."""
    from agentos.evidence.evals import datasets  # brings in what no other command needs

    good, broken = datasets.read(_read(file))
    output.show({"cases": len(good), "broken": len(broken)} if not output.as_json else _checked(len(good), broken))
    if broken and not output.as_json:
        output.show([{"line": one.line, "reason": one.reason} for one in broken], columns=("line", "reason"))
    raise typer.Exit(2 if broken else 0)


def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of cases (JSON Lines).")],
    name: Annotated[str, typer.Option("--name", help="The data set's name; else the file's.")] = "",
) -> None:
    """Keep a file of cases. The same content is the same data set; another is its newest from now on."""
    output.show(_add(connect(), file, name))


def list_datasets() -> None:
    """List data sets by name, each with its newest content."""
    found = connect().get(f"{_PATH}/datasets", limit=200)["items"]
    columns = ("name", "hash", "cases", "broken", "counts_for_gates", "added_by", "added_at")
    output.show(found, columns=columns)


def list_evals(
    agent: Annotated[str, typer.Option("--agent", "-a", help="Of this agent only.")] = "",
    dataset: Annotated[str, typer.Option("--dataset", help="Over this data set only.")] = "",
    status: Annotated[str, typer.Option("--status", help="running, completed, failed or cancelled.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="How many at most, 1 to 200.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="The next_cursor of the page before; see --json.")] = "",
) -> None:
    """List evals, newest first."""
    asked = {"agent": agent, "dataset": dataset, "status": status, "limit": limit, "cursor": cursor}
    found = connect().get(f"{_PATH}/offline-evals", **asked)
    columns = ("id", "dataset", "agent_id", "version", "against", "status", "done", "total", "started_at")
    output.show(found if output.as_json else found["items"], columns=columns)


def show(eval_id: EvalId) -> None:
    """Show an eval: how far it is, and its report."""
    _show(connect().get(f"{_PATH}/offline-evals/{eval_id}"))


def cases(
    eval_id: EvalId,
    limit: Annotated[int, typer.Option("--limit", help="How many at most, 1 to 200.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="The next_cursor of the page before; see --json.")] = "",
) -> None:
    """List what came of each case."""
    found = connect().get(f"{_PATH}/offline-evals/{eval_id}/cases", limit=limit, cursor=cursor)
    columns = ("case", "side", "repeat", "status", "passed", "scores", "why", "output")
    output.show(found if output.as_json else found["items"], columns=columns)


def cancel(eval_id: EvalId) -> None:
    """End an eval; its outcomes are kept."""
    output.show(connect().post(f"{_PATH}/offline-evals/{eval_id}/cancel"))


def resume(
    eval_id: EvalId,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for its end.")] = False,
) -> None:
    """Let an eval that failed go on where it was; what was answered is not asked again."""
    client = connect()
    found = client.post(f"{_PATH}/offline-evals/{eval_id}/resume")
    if no_wait:
        output.show(found)
        return
    _show_end(_wait(client, found))


def export(
    eval_id: EvalId,
    file: Annotated[str, typer.Option("--output", "-o", help="The file to write; else EVAL.json.")] = "",
) -> None:
    """Write an eval with its report and the outcome of every case as one JSON file."""
    client, place = connect(), Path(file or f"{eval_id}.json")
    found = client.get(f"{_PATH}/offline-evals/{eval_id}")
    outcomes: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = client.get(f"{_PATH}/offline-evals/{eval_id}/cases", limit=200, cursor=cursor)
        outcomes += page["items"]
        cursor = page["next_cursor"]
    data = json.dumps(found | {"cases": outcomes}, indent=2, ensure_ascii=False, default=str)
    try:
        place.write_text(data + "\n", encoding="utf-8")
    except OSError as error:
        raise DatasetUnreadable(f"the file cannot be written: {error.strerror}", where=str(place)) from None
    output.show({"file": str(place), "cases": len(outcomes), "status": found["status"]})


def _add(client: Client, file: Path, name: str) -> dict[str, Any]:
    content = _read(file)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise DatasetUnreadable("the file is not UTF-8", where=str(file), then="Save it as UTF-8.") from None
    body = {"name": name or _name_of(file), "content": text}
    added: dict[str, Any] = client.post(f"{_PATH}/datasets", body)
    for one in added["broken"]:
        output.progress(f"line {one['line']} is no case: {one['reason']}")
    if added["broken"]:
        output.progress(f"{len(added['broken'])} lines are left out; until they are mended no gate counts a result")
    return added


def _name_of(file: Path) -> str:
    """A data set's name out of a file's."""
    return re.sub(r"[^a-z0-9_-]+", "_", file.stem.lower()).lstrip("0123456789_-")[:63] or "cases"


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise FileOfCasesUnknown(f"there is no file {file}", then="Check the path.") from None
    except OSError as error:
        raise DatasetUnreadable(f"the file cannot be read: {error.strerror}", where=str(file)) from None


def _checked(good: int, broken: Any) -> dict[str, Any]:
    return {"cases": good, "broken": [{"line": one.line, "reason": one.reason} for one in broken]}


def _wait(client: Client, found: dict[str, Any]) -> dict[str, Any]:
    """The eval, once it is over; how far it is is told meanwhile."""
    told, wait = -1, _LOOK_SECONDS
    output.progress(f"eval {found['id']}: {found['total']} executions")
    while found["status"] == "running":
        time.sleep(wait)  # longer each time: an eval tells its progress only to whoever asks
        wait = min(wait * 1.5, _LONGEST_LOOK_SECONDS)
        found = client.get(f"{_PATH}/offline-evals/{found['id']}")
        if found["done"] != told:
            told = found["done"]
            output.progress(f"  {told} of {found['total']}")
    return found


def _show_end(found: dict[str, Any]) -> None:
    """Print an eval that is over; leave with 1 when it came to no report."""
    completed = found["status"] == "completed"
    _show(found)
    raise typer.Exit(0 if completed else 1)


def _show(found: dict[str, Any]) -> None:
    """Print an eval with its figures."""
    if output.as_json:
        output.show(found)
        return
    report = found.pop("report") or {}
    output.show(found)
    for side in ("candidate", "against"):
        if side in report:
            _show_side(side, report[side])
    if "comparison" in report:
        _show_comparison(report["comparison"])


def _show_side(side: str, said: dict[str, Any]) -> None:
    output.show("")
    output.show(f"{side}: {said['cases']} cases, {said['flaky']['cases']} flaky, {said['left']['cases']} left")
    figures = [{"scorer": name, **_rounded(figure)} for name, figure in said["scores"].items()]
    output.show(figures, columns=("scorer", "mean", "low", "high", "samples"))
    if finds := said.get("to_find_a_loss"):
        output.show(
            f"a loss of {finds['loss']:.0%} is found in {finds['power']:.0%} of comparisons with {finds['cases']} cases"
        )
    for one in said["left"]["reasons"]:
        output.show(f"left {one['times']} times: {one['why']}")
    if said["flaky"]["ids"]:
        output.show(f"flaky: {', '.join(said['flaky']['ids'])}")


def _show_comparison(said: dict[str, Any]) -> None:
    output.show("")
    output.show(f"comparison: {said['pairs']} cases, {said['won']} won, {said['lost']} lost")
    figures = [{"scorer": name, **_rounded(figure)} for name, figure in said["scores"].items()]
    output.show(figures, columns=("scorer", "difference", "low", "high", "p", "samples"))
    differing = [
        {"case": one["case"], "candidate": one["candidate"], "against": one["against"]} for one in said["differences"]
    ]
    if differing:
        output.show(differing, columns=("case", "candidate", "against"))


def _rounded(figure: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figure.items()}
