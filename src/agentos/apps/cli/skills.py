"""``agentos skills …`` and ``agentos registry …``: what is registered, what changed, and the registry as a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.client import Client, connect
from agentos.apps.embedded.home import Home
from agentos.apps.home import home_folder
from agentos.kernel.errors import EXIT_CODE, Conflict

if TYPE_CHECKING:
    from agentos.runtime.skills.model import Registered

Name = Annotated[str, typer.Argument(metavar="SKILL", help="A skill's name.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An export of the registry.")]
Key = Annotated[str, typer.Option("--key", help="The public key that must have signed it, as base64. Else our own.")]

_COLUMNS = ("name", "version", "effect", "state", "digest", "first_seen", "first_service")
_PAGE = 200


def register(app: typer.Typer) -> None:
    """Add the verbs of skills and of their registry."""
    skills = typer.Typer(help="Skills: their versions and contracts.", no_args_is_help=True)
    skills.command("list")(list_skills)
    for verb in (show, diff, resolve):
        skills.command(verb.__name__)(verb)
    app.add_typer(skills, name="skills")
    registry = typer.Typer(help="The registry of skills, as a whole.", no_args_is_help=True)
    for whole in (status, export, verify, restore):
        registry.command(whole.__name__)(whole)
    app.add_typer(registry, name="registry")


def list_skills() -> None:
    """List every registered version of every skill."""
    found = _every(connect())
    output.show(found if output.as_json else [_short(one) for one in found], columns=_COLUMNS)


def show(skill: Name) -> None:
    """Show a skill's versions, and the contract of the newest."""
    found = connect().get(f"/api/v1/skills/{skill}")
    if output.as_json:
        output.show(found)
        return
    output.show([_short(one) for one in found["versions"]], columns=_COLUMNS)
    output.show("")
    contract = found["versions"][-1]["contract"]
    output.show({name: value for name, value in contract.items() if not name.endswith("_schema")})
    for schema in ("input_schema", "output_schema"):
        output.show(f"{schema}: {json.dumps(contract[schema], ensure_ascii=False)}")


def diff(
    skill: Name,
    was: Annotated[str, typer.Argument(metavar="A", help="The version that somebody relies on.")],
    to: Annotated[str, typer.Argument(metavar="B", help="The version that they would get.")],
) -> None:
    """Show what version B changes for who relied on version A. Exit code 5 when it breaks them."""
    found = connect().get(f"/api/v1/skills/{skill}/diff", was=was, to=to)
    if output.as_json:
        output.show(found)
    else:
        rows = [{"change": one, "breaks": "yes"} for one in found["breaking"]]
        rows += [{"change": one, "breaks": "no"} for one in found["compatible"]]
        output.show(rows or [{"change": "nothing", "breaks": "no"}], columns=("breaks", "change"))
    if found["breaks"]:
        raise typer.Exit(EXIT_CODE[Conflict])


def resolve(
    skill: Name,
    version: Annotated[str, typer.Argument(metavar="SPEC", help="A version, ^1.2, ~1.2, '>=1.2,<2' or latest.")],
) -> None:
    """Show which registered version a version, a range or ``latest`` means today."""
    output.show(connect().get(f"/api/v1/skills/{skill}/resolve", version=version))


def status() -> None:
    """Show whether the registry takes new skills, and what the API does not serve. Exit code 5 when anything."""
    found = connect().get("/api/v1/registry")
    output.show(found)
    if found["withheld"]:
        raise typer.Exit(EXIT_CODE[Conflict])


def export(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The file to write. Else it is printed.")] = None,
) -> None:
    """Write the whole registry as one signed file."""
    from agentos.runtime.skills.model import RegistryFileInvalid

    document = connect().get("/api/v1/registry/export")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if out is None:
        print(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RegistryFileInvalid(f"the file cannot be written: {error.strerror}", where=str(out)) from None
    output.show({"file": str(out), "skills": len(document["skills"]), "key_id": document["signature"]["key_id"]})


def verify(file: File, key: Key = "") -> None:
    """Check a file, and name what differs in the registry and in what is loaded. Exit code 5 when anything does."""
    from agentos.runtime.skills import exports

    rows = _rows(file, key)
    found = [asdict(one) for one in exports.differences(rows, _every(connect()))]
    output.show({"file": str(file), "skills": len(rows), "differing": len(found), "differences": found})
    if found:
        raise typer.Exit(EXIT_CODE[Conflict])


def restore(
    file: File,
    key: Key = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be put back.")] = False,
) -> None:
    """Put back what is missing or damaged in the registry. Works at the machine only: it needs the database."""
    from agentos.apps import registry  # the database's driver would cost every other command half a second

    done = registry.restore(_rows(file, key), dry_run=dry_run)
    changed = [one for one in done if one["did"] != "kept"]
    output.show({"skills": len(done), "restored": len(changed), "dry_run": dry_run, "changes": changed})


def _rows(file: Path, key: str) -> list[Registered]:
    from agentos.runtime.skills import exports
    from agentos.runtime.skills.model import RegistryFileInvalid

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RegistryFileInvalid(f"the file cannot be read: {said}", where=str(file)) from None
    if not isinstance(document, dict):
        raise RegistryFileInvalid("the file holds no document", where=str(file))
    return exports.read(document, pinned=key or _own_key())


def _own_key() -> str:
    """The public key of this machine's platform: a file that anybody else signed is not taken for ours."""
    from agentos.kernel.settings import SigningSettings
    from agentos.kernel.signing import Signer

    path = SigningSettings.read().key or str(Home(home_folder()).path / "signing-key.pem")
    return Signer.load(path).public_key


def _every(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = client.get("/api/v1/skills", limit=_PAGE, cursor=cursor)
        found += answer["items"]
        cursor = answer["next_cursor"] or ""
        if not cursor:
            return found


def _short(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"digest": one["digest"].removeprefix("sha256:")[:12]}
