"""``agentos privacy …``: look through files for personal data, redact them, and say what is looked for."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.client import connect
from agentos.control.privacy.model import Counts, Kind, Mode, Rules, counted, told
from agentos.kernel.errors import Invalid

if TYPE_CHECKING:
    from agentos.control.privacy.files import Looked
    from agentos.control.privacy.ports import Recognizer

FOUND: Final = 1  # exit code: something was found; 0: nothing was, and all was looked through
SKIPPED: Final = 8  # exit code: nothing was found, and something was not looked through

_PATH: Final = "/api/v1/privacy/rules"
Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders; '-' is standard input.")]
Also = Annotated[list[Kind] | None, typer.Option("--also", help="Look for this kind of class C, too; repeat it.")]


class InputNotText(Invalid):
    """Standard input is binary, not in UTF-8 or too large to be looked through."""

    code = "input_not_text"


def register(app: typer.Typer) -> None:
    """Add the verbs of privacy."""
    verbs = typer.Typer(help="Personal data: scan, redact, rules.", no_args_is_help=True)
    verbs.command("scan")(scan)
    verbs.command("redact")(redact)
    verbs.command("rules")(rules)
    app.add_typer(verbs, name="privacy")


def scan(paths: Paths, also: Also = None) -> None:
    """Tell which kinds of personal data stand where, never what they are.

    Exit code 0: nothing; 1: something; 8: nothing, but a file was not looked through.
    """
    from agentos.control.privacy import files
    from agentos.control.privacy.finder import find

    wanted, recognizer = _rules(also, None)
    looked = []
    for path in _paths(paths):
        if path is None:
            text = _standard_input()
            found = find(text, wanted, recognizer=recognizer)
            looked.append(files.Looked("-", counted(found), tuple(files.places(text, found))))
        else:
            looked.append(files.scan(path, wanted, recognizer))
        _tell(looked[-1])
    _end(looked)


def redact(
    paths: Paths,
    also: Also = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="mask, hash or remove; else the installation's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show how much there is.")] = False,
) -> None:
    """Redact files in their place; what comes from standard input goes to standard output.

    Exit code 0: done, or nothing to do; 1: with --dry-run, there is something; 8: a file was not looked through.
    """
    from agentos.control.privacy import files
    from agentos.control.privacy.values import redact as redacted

    wanted, recognizer = _rules(also, mode)
    looked = []
    for path in _paths(paths):
        if path is None:
            shown, counts = redacted(_standard_input(), wanted, recognizer=recognizer)
            if not dry_run:
                sys.stdout.write(shown)
                _report([files.Looked("-", counts)], sys.stderr)
                continue
            looked.append(files.Looked("-", counts))
        else:
            looked.append(files.rewrite(path, wanted, dry_run=dry_run, recognizer=recognizer))
        _tell(looked[-1])
    if looked:
        _end(looked, found=FOUND if dry_run else 0)


def rules(
    kind: Annotated[list[Kind] | None, typer.Option("--kind", help="Look for this kind; repeat it.")] = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="What becomes of what is found.")] = None,
    template: Annotated[str, typer.Option("--template", help="The marker, as '[REDACTED: {type}]'.")] = "",
    region: Annotated[list[str] | None, typer.Option("--region", help="Whose phone numbers, as DE; repeat it.")] = None,
) -> None:
    """Show what is looked for in your organization and what becomes of it, or change what is named."""
    client = connect()
    standing = client.get(_PATH)
    changes: dict[str, Any] = {}
    if kind is not None:
        changes["kinds"] = list(kind)
    if mode is not None:
        changes["mode"] = mode
    if template:
        changes["template"] = template
    if region is not None:
        changes["regions"] = region
    if changes:
        kept = {name: value for name, value in standing.items() if name not in ("changed_by", "changed_at")}
        standing = client.put(_PATH, kept | changes)
    output.show(standing)


def _rules(also: list[Kind] | None, mode: Mode | None) -> tuple[Rules, Recognizer | None]:
    from agentos.control.privacy.ports import recognizer_of
    from agentos.control.privacy.settings import PrivacySettings

    settings = PrivacySettings.read(**({} if mode is None else {"mode": mode}))
    usual = settings.rules("files")
    wanted = Rules(usual.kinds | frozenset(also or ()), usual.mode, {}, usual.template, usual.regions, usual.key)
    return wanted, recognizer_of(settings.recognizer)


def _paths(given: list[Path]) -> list[Path | None]:
    from agentos.control.privacy import files

    found: list[Path | None] = []
    for path in given:
        found += [None] if str(path) == "-" else list(files.files([path]))
    return found


def _standard_input() -> str:
    from agentos.control.privacy import files

    text = files.decoded(sys.stdin.buffer.read(files.MOST_BYTES + 1))
    if text is None:
        raise InputNotText("standard input is binary, not in UTF-8 or too large", where="-", then="Give text.")
    return text


def _tell(one: Looked) -> None:
    """Print what came of one file; nothing for one that holds nothing."""
    if output.as_json:
        return
    if one.skipped:
        output.progress(f"{one.path}: not looked through: {one.skipped}")
    for place in one.places:
        sys.stdout.write(f"{one.path}:{place.line}:{place.column}: {place.kind}\n")
    if one.counts and not one.places:
        shown = ", ".join(f"{kind} {number}" for kind, number in told(one.counts).items())
        sys.stdout.write(f"{one.path}: {shown}{'' if one.changed else ' (unchanged)'}\n")


def _end(looked: list[Looked], *, found: int = FOUND) -> None:
    if output.as_json:
        _report(looked, sys.stdout)
    else:
        total = sum((one.counts for one in looked), Counts())
        skipped = sum(bool(one.skipped) for one in looked)
        shown = ", ".join(f"{kind} {number}" for kind, number in told(total).items()) or "nothing found"
        output.progress(f"{len(looked) - skipped} looked through, {skipped} not: {shown}")
    code = found if any(one.counts for one in looked) else 0
    if not code and any(one.skipped for one in looked):
        code = SKIPPED
    raise typer.Exit(code)


def _report(looked: list[Looked], where: Any) -> None:
    if not output.as_json:
        return
    document = {
        "counts": told(sum((one.counts for one in looked), Counts())),
        "files": [
            {
                "path": one.path,
                "counts": told(one.counts),
                "places": [asdict(place) for place in one.places],
                "skipped": one.skipped or None,
                "changed": one.changed,
            }
            for one in looked
            if one.counts or one.skipped
        ],
        "looked_through": sum(not one.skipped for one in looked),
    }
    where.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
