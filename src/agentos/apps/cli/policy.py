"""``agentos policy …``: what agents may do, what that would mean, and what it would have meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import match_headers, resolve
from agentos.apps.cli.times import From, To, Zone, exact
from agentos.apps.client import Client, connect
from agentos.kernel.errors import Invalid

BASE: Final = "/api/v1/agents/policies"
MOST_BYTES: Final = 1024 * 1024  # the API takes no more

Deployment = Annotated[str, typer.Option("--deployment", "-d", help="An id, or AGENT, or AGENT/ENVIRONMENT.")]
Named = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id, or AGENT, or AGENT/ENVIRONMENT.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The policy as YAML or JSON.")]
Proposed = Annotated[
    Path,
    typer.Option(
        "--proposed",
        help="YAML or JSON with any of organization, deployment, tier, denylist and budgets; see reference/policy.md.",
    ),
]


class PolicyUnreadable(Invalid):
    """A file with a policy or a proposal is neither YAML nor JSON, or cannot be read."""

    code = "policy_unreadable"


def register(app: typer.Typer) -> None:
    """Add the verbs of policy."""
    policy = typer.Typer(help="Policy: what agents may do alone, ask for, or not do.", no_args_is_help=True)
    policy.command("set")(put)
    for verb in (show, history, decide, simulate, backtest):
        policy.command(verb.__name__)(verb)
    app.add_typer(policy, name="policy")


def show(deployment: Deployment = "") -> None:
    """Show the policy in force for the organization, or for a deployment."""
    client = connect()
    output.show(client.get(_path(client, deployment)))


def history(deployment: Deployment = "") -> None:
    """List every policy that the organization, or a deployment, ever had, newest first."""
    client = connect()
    found = client.get(f"{_path(client, deployment)}/history", limit=200)["items"]
    output.show(found, columns=("number", "hash", "reason", "saved_by", "saved_at"))


def put(
    file: File,
    deployment: Deployment = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the history.")] = "",
    confirm: Annotated[bool, typer.Option("--confirm", help="Save it although it would deny every call.")] = False,
    if_match: Annotated[str, typer.Option("--if-match", help="Only if this is the present ETag.")] = "",
) -> None:
    """Put a policy in force, from the next effect of runs under way on."""
    client = connect()
    body = {"policy": read(file), "reason": reason, "confirm": confirm}
    output.show(client.put(_path(client, deployment), body, headers=match_headers(if_match)))


def decide(
    deployment: Named,
    skill: Annotated[str, typer.Argument(metavar="SKILL", help="A skill's name.")],
    arguments: Annotated[str, typer.Option("--arguments", help="The call's arguments, as JSON.")] = "{}",
    submitted: Annotated[bool, typer.Option("--submitted", help="As if a person submitted it from a draft.")] = False,
) -> None:
    """Show what policy would say of a call now, and what each of its rules says. Nothing is done."""
    try:
        given = json.loads(arguments)
    except ValueError as error:
        raise PolicyUnreadable(f"--arguments is no JSON: {error}") from None
    client = connect()
    body = {"deployment_id": resolve(client, deployment), "skill": skill, "arguments": given, "submitted": submitted}
    found = client.post(f"{BASE}/decide", body)
    if output.as_json:
        output.show(found)
        return
    rules = found.pop("rules")
    output.show(found)
    output.show("")
    output.show(rules, columns=("code", "verdict", "reasons", "rule"))


def simulate(deployment: Named, proposed: Proposed) -> None:
    """Show what a proposal would change for each skill of the version that serves. Nothing is done."""
    client = connect()
    body = {"deployment_id": resolve(client, deployment), "proposed": read(proposed)}
    found = client.post(f"{BASE}/simulate", body)
    output.show(found if output.as_json else [_short(one) for one in found["skills"]])


def backtest(
    proposed: Proposed,
    since: From = "24h",
    until: To = "",
    deployment: Deployment = "",
    zone: Zone = "",
) -> None:
    """Show what a proposal would have made of what runs did: blocked, drafted or asked, and at what cost to people.

    Of models: which runs would have asked one for no more, because of a cap on money or tokens or a denied provider.

    Stops that are in force today do not count; nothing live is touched.
    """
    client = connect()
    named = resolve(client, deployment) if deployment else ""
    times = {"since": exact(since, where="--from", zone=zone), "until": exact(until, where="--to", zone=zone)}
    body = {"proposed": read(proposed), **times, "deployment_id": named}
    found = client.post(f"{BASE}/backtest", body)
    if output.as_json:
        output.show(found)
        return
    stopped, refused = found.pop("stopped"), found.pop("refused")
    output.show(found)
    if refused:
        output.show("\nruns that would have asked a model for no more, and from when:")
        columns = ("at", "agent_id", "run_id", "step", "provider", "code", "answers", "money", "reasons")
        output.show(refused, columns=columns)
    if stopped:
        output.show("\neffects that happened and would not have:")
        output.show(stopped, columns=("at", "agent_id", "skill", "effect", "verdict", "code", "run_id", "step"))


def _path(client: Client, deployment: str) -> str:
    if not deployment:
        return f"{BASE}/organization"
    return f"/api/v1/agents/deployments/{resolve(client, deployment)}/policy"


def read(file: Path) -> dict[str, Any]:
    """A policy, or a proposal, out of a file of YAML or JSON. Raises PolicyUnreadable (Invalid)."""
    import yaml

    try:
        if file.stat().st_size > MOST_BYTES:
            raise PolicyUnreadable(f"the file is over {MOST_BYTES} bytes", where=str(file))
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PolicyUnreadable(f"the file cannot be read: {error}", where=str(file)) from None
    if not isinstance(found, dict):
        raise PolicyUnreadable("the file holds no mapping", where=str(file), then="Write names and values, as YAML.")
    return found


def _short(one: dict[str, Any]) -> dict[str, Any]:
    def verdict(said: Any) -> str:
        return said if isinstance(said, str) else f"{said['verdict']} ({said['code']})"

    return one | {"now": verdict(one["now"]), "proposed": verdict(one["proposed"])}
