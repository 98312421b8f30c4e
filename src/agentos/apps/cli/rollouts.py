"""``agentos deployments promote|canary|rollback|…``: what serves next, and whether that helped."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.apps.cli import deployments, output
from agentos.apps.cli.deployments import BASE, IfMatch, Named, match_headers, resolve, show_deployment
from agentos.apps.client import Client, connect

Version = Annotated[str, typer.Argument(metavar="VERSION", help="A number, a hash or its beginning.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and left open, and do nothing.")]
Breaking = Annotated[
    bool, typer.Option("--accept-breaking", help="Also when contracts of its skills break; kept in the history.")
]
Live = Annotated[
    bool, typer.Option("--live", help="Let live models be asked where it is tried on recorded runs, at your cost.")
]
Force = Annotated[bool, typer.Option("--force", help="Also when gates refuse; takes --reason and the permission.")]

_CANARIES = ("revision", "version", "outcome", "started_at", "ended_at", "figures", "breaches")
_CHECKS = ("check", "outcome", "said")
_ROLLBACKS = ("number", "version", "rolled_back", "outcome", "at", "validated_at", "reason")
_SHADOW = ("run_id", "recorded", "found", "outcome", "code", "micros_more", "left_because")


def register(_app: typer.Typer) -> None:
    """Add the verbs of rollouts to those of deployments."""
    verbs = (promote, canary, canaries, rollback, rollbacks, validation, pause, resume, retire, tier, impact, shadow)
    for verb in verbs:
        deployments.group.command(verb.__name__)(verb)
    deployments.group.command("end-canary")(end_canary)
    deployments.group.command("shadow-runs")(shadow_runs)
    deployments.group.command("end-shadow")(end_shadow)


def promote(
    deployment: Named,
    version: Version,
    reason: Reason = "",
    if_match: IfMatch = "",
    accept_breaking: Breaking = False,
    force: Force = False,
    dry_run: DryRun = False,
    what_if: Annotated[int, typer.Option("--what-if", help="Try it first on the last so many runs.")] = 0,
    changed: Annotated[float, typer.Option("--changed", help="Percent of them that may end otherwise.")] = 0.0,
    diverged: Annotated[
        float | None, typer.Option("--diverged", help="Percent of them that may do anything else. Else any.")
    ] = None,
    cost: Annotated[
        float | None, typer.Option("--cost", help="Percent that they may cost more together. Else any.")
    ] = None,
    live: Live = False,
) -> None:
    """Let a version serve from the next run on, unless a gate or a freeze refuses."""
    body = _wanted(version, reason, accept_breaking=accept_breaking, force=force)
    if what_if:
        limits = {"what_if_changed": changed, "what_if_diverged": diverged, "what_if_cost": cost}
        body |= {"what_if": what_if, **limits}
    body |= {"what_if_live": True} if live else {}
    _order(deployment, "promote", body, if_match, dry_run=dry_run)


def canary(
    deployment: Named,
    version: Version,
    percent: Annotated[int, typer.Argument(metavar="PERCENT", help="1 to 99, of the runs that are admitted.")],
    reason: Reason = "",
    if_match: IfMatch = "",
    accept_breaking: Breaking = False,
    force: Force = False,
    dry_run: DryRun = False,
    live: Live = False,
) -> None:
    """Let a version serve a share of the runs, or change that share. It is rolled back by itself when it does worse."""
    body = _wanted(version, reason, accept_breaking=accept_breaking, force=force) | {"percent": percent}
    body |= {"what_if_live": True} if live else {}
    _order(deployment, "canary", body, if_match, dry_run=dry_run)


def end_canary(deployment: Named, reason: Reason = "", if_match: IfMatch = "", dry_run: DryRun = False) -> None:
    """Let the canary serve nothing more."""
    client, query = connect(), {"reason": reason, "dry_run": "true" if dry_run else ""}
    path = f"{_path(client, deployment)}/canary"
    show_deployment(client.delete(path, match_headers(if_match), **query))


def canaries(deployment: Named) -> None:
    """List the canaries of a deployment with their figures beside those of the version that served."""
    client = connect()
    output.show(client.get(f"{_path(client, deployment)}/canary")["items"], columns=_CANARIES)


def rollback(
    deployment: Named,
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="One that served before. Else the last known good.")
    ] = "",
    reason: Reason = "",
    criterion: Annotated[
        str, typer.Option("--criterion", help="new_issues, not_resolved, wider_impact or too_slow.")
    ] = "",
    if_match: IfMatch = "",
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Let a version that served before serve again, from the next run on, and check whether that helps."""
    body: dict[str, Any] = {"version": version or None, "reason": reason}
    body |= {"criterion": criterion} if criterion else {}
    body |= {"force": True} if force else {}
    _order(deployment, "rollback", body, if_match, dry_run=dry_run)


def rollbacks(deployment: Named) -> None:
    """List the rollbacks of a deployment, newest first."""
    client = connect()
    output.show(client.get(f"{_path(client, deployment)}/rollbacks", limit=200)["items"], columns=_ROLLBACKS)


def validation(
    deployment: Named,
    number: Annotated[int, typer.Option("--revision", help="Of the rollback. Else the last one.")] = 0,
) -> None:
    """Say whether a rollback helped: each check passed, failed, unknown or waiting, with its figures."""
    client = connect()
    path = f"{_path(client, deployment)}/rollbacks"
    if not number:
        last = client.get(path, limit=1)["items"]
        if not last:
            output.show(last)
            return
        number = last[0]["number"]
    found = client.get(f"{path}/{number}")
    if output.as_json:
        output.show(found)
        return
    checks = found.pop("checks")
    output.show(found)
    output.show("")
    output.show(checks, columns=_CHECKS)


def pause(deployment: Named, if_match: IfMatch = "", dry_run: DryRun = False) -> None:
    """Admit no runs, and let runs under way act no more, until resumed."""
    _order(deployment, "pause", None, if_match, dry_run=dry_run)


def resume(deployment: Named, if_match: IfMatch = "", dry_run: DryRun = False) -> None:
    """Admit runs again."""
    _order(deployment, "resume", None, if_match, dry_run=dry_run)


def retire(deployment: Named, if_match: IfMatch = "", dry_run: DryRun = False) -> None:
    """End a deployment for good. Runs under way stop before their next effect."""
    _order(deployment, "retire", None, if_match, dry_run=dry_run)


def tier(
    deployment: Named,
    tier: Annotated[str, typer.Argument(metavar="TIER", help="L0 to L4, at most the version's highest.")],
    if_match: IfMatch = "",
    dry_run: DryRun = False,
) -> None:
    """Put an autonomy tier in force, from the next effect of runs under way on."""
    client = connect()
    path = f"{_path(client, deployment)}{_tried(dry_run=dry_run)}"
    show_deployment(client.patch(path, {"tier": tier}, headers=match_headers(if_match)))


def impact(
    deployment: Named,
    version: Annotated[str, typer.Option(help="With it, what the gates say of that version.")] = "",
    change: Annotated[str, typer.Option(help="promote, rollback, canary, pause, resume, retire or tier.")] = "promote",
) -> None:
    """Say what a change would leave open: which runs stay on which version, and which of them cannot go on."""
    client = connect()
    found = client.get(f"{_path(client, deployment)}/impact", version=version, change=change)
    if output.as_json:
        output.show(found)
        return
    for line in [*found["said"], *(one["reason"] for one in found.get("gates", []))]:
        output.show(line)


def shadow(
    deployment: Named,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Else say what the shadow came to.")] = "",
    percent: Annotated[int, typer.Argument(metavar="[PERCENT]", help="1 to 100, of the runs that end.")] = 100,
    live: Annotated[bool, typer.Option("--live", help="Let live models be asked, at your cost.")] = False,
) -> None:
    """Show a version what runs were given, without effects; without a version, what that came to."""
    client = connect()
    path = f"{_path(client, deployment)}/shadow"
    body = {"version": version, "percent": percent, "live": live}
    output.show(client.post(path, body) if version else client.get(path))


def shadow_runs(deployment: Named) -> None:
    """List what each run would have come to under the shadow."""
    client = connect()
    output.show(client.get(f"{_path(client, deployment)}/shadow/runs", limit=200)["items"], columns=_SHADOW)


def end_shadow(deployment: Named) -> None:
    """Show the shadow nothing more; what it came to stays."""
    client = connect()
    output.show(client.delete(f"{_path(client, deployment)}/shadow"))


def _wanted(version: str, reason: str, *, accept_breaking: bool, force: bool) -> dict[str, Any]:
    said = {"accept_breaking": accept_breaking, "force": force}
    return {"version": version, "reason": reason, **{name: True for name, value in said.items() if value}}


def _path(client: Client, deployment: str) -> str:
    return f"{BASE}/{resolve(client, deployment)}"


def _order(deployment: str, verb: str, body: dict[str, Any] | None, if_match: str, *, dry_run: bool) -> None:
    client = connect()
    path = f"{_path(client, deployment)}/{verb}{_tried(dry_run=dry_run)}"
    show_deployment(client.post(path, body, headers=match_headers(if_match)))


def _tried(*, dry_run: bool) -> str:
    return "?dry_run=true" if dry_run else ""
