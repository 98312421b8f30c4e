"""``agentos quality …``: scores, feedback, figures, drift, gates, freezes and recommendations."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from agentos.apps.cli import output
from agentos.apps.cli.deployments import resolve
from agentos.apps.client import Client, connect
from agentos.evidence.quality.model import (
    Comparator,
    Feedback,
    FreezeUnknown,
    ScopeInvalid,
    Severity,
)
from agentos.evidence.recommendations.model import Standing
from agentos.kernel.units import duration

PATH: Final = "/api/v1/agents/quality"

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")]
Role = Annotated[str, typer.Option("--role", help="A category of agents.")]
Deployment = Annotated[str, typer.Option("--deployment", help="An id, or AGENT, or AGENT/ENVIRONMENT.")]
Agent = Annotated[str, typer.Option("--agent", help="One agent.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept.")]
Last = Annotated[str, typer.Option("--last", help="How far back, as 24h or 7d.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of quality."""
    quality = typer.Typer(help="Quality: whether runs were any good, and what may be promoted.", no_args_is_help=True)
    for verb in (score, feedback, figures, calibration, drift, judge, freeze, unfreeze, freezes):
        quality.command(verb.__name__)(verb)
    gates = typer.Typer(help="Gates: what a version's figures must be before it is promoted.", no_args_is_help=True)
    gates.command("list")(list_gates)
    gates.command("add")(add_gate)
    gates.command("remove")(remove_gate)
    quality.add_typer(gates, name="gates")
    advice = typer.Typer(help="Recommendations: what the figures advise.", no_args_is_help=True)
    advice.command("list")(list_recommendations)
    advice.command("look")(look)
    for standing in (accept, dismiss, resolve_recommendation):
        advice.command(standing.__name__.partition("_")[0])(standing)
    quality.add_typer(advice, name="recommendations")
    app.add_typer(quality, name="quality")


def score(run: RunId) -> None:
    """Show a run's score and confidence, with the parts that are known and those that are not."""
    found = connect().get(f"{PATH}/runs/{run}")
    if output.as_json:
        output.show(found)
        return
    names = ("run_id", "status", "score", "confidence", "feedback", "counted", "formula")
    output.show({name: found[name] for name in names})
    rows = [
        {**one, "of": of, "value": "unknown" if one["value"] is None else round(one["value"], 3)}
        for of, parts in (("score", "parts"), ("confidence", "confidence_parts"))
        for one in found[parts]
    ]
    output.show(rows, columns=("of", "part", "value", "weight", "formula"))


def feedback(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or a draft's.")],
    verdict: Annotated[Feedback, typer.Argument(help="How good it was.")],
    note: Annotated[str, typer.Option("--note", help="What was wrong, or right.")] = "",
) -> None:
    """Say how good a run or a draft was. The last word on each counts."""
    of = "draft" if run.startswith("draft_") else "run"
    output.show(connect().post(f"{PATH}/feedback", {of: run, "verdict": verdict, "note": note}))


def figures(role: Role = "", deployment: Deployment = "", last: Last = "7d") -> None:
    """Show every figure of a role, a deployment or the organization, with its interval and samples."""
    found = _figures("figures", role, deployment, seconds=_seconds(last))
    rows = [{"metric": name, **_known(figure)} for name, figure in found["figures"].items()]
    output.show(found if output.as_json else rows, columns=("metric", "value", "low", "high", "samples"))
    if found["unscored"]:
        output.progress(f"{found['unscored']} more runs ended in this time and have no score: they are in no figure")


def calibration(role: Role = "", deployment: Deployment = "", last: Last = "30d") -> None:
    """Show how far confidence is from what people said of the runs."""
    found = _figures("calibration", role, deployment, seconds=_seconds(last))
    if output.as_json:
        output.show(found)
        return
    names = ("brier", "calibration_gap")
    output.show([{"figure": name, **_known(found[name])} for name in names])
    rows = [
        {"bin": f"{one['low']:.1f} to {one['high']:.1f}", "confidence": round(one["confidence"], 3)}
        | {f"accepted_{name}": value for name, value in _known(one["accepted"]).items()}
        for one in found["bins"]
    ]
    output.show(rows)


def drift(
    role: Role = "",
    deployment: Deployment = "",
    last: Last = "24h",
    baseline: Annotated[str, typer.Option("--baseline", help="What it is compared with: the time before.")] = "7d",
) -> None:
    """Show how far the runs of the last time are from those before, and which change explains it."""
    found = _figures("drift", role, deployment, window_seconds=_seconds(last), baseline_seconds=_seconds(baseline))
    if output.as_json:
        output.show(found)
        return
    output.show(
        {**_known(found["drift"]), **{name: found[name] for name in ("baseline_samples", "leading", "unknown")}}
    )
    if found["left_out"]:
        output.show(found["left_out"])
    if found["dimensions"]:
        columns = ("dimension", "value", "low", "high", "by_chance", "counted", "now", "before")
        output.show([_known(one) for one in found["dimensions"]], columns=columns)
    if found["causes"]:
        output.show([_known(one, "moved", "explained") for one in found["causes"]])


def judge(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id, or AGENT, or AGENT/ENVIRONMENT.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A number, a hash or the beginning of one.")],
) -> None:
    """Show what every gate says of a version, and what would keep it from being promoted."""
    client = connect()
    found = client.get(f"{PATH}/deployments/{resolve(client, deployment)}/judgement", version=version)
    if output.as_json:
        output.show(found)
        return
    output.show({"version": found["version"], "may_be_promoted": found["may_be_promoted"]})
    blocking, warnings = ([{"what": what, "reason": one} for one in found[name]] for what, name in
                          (("blocks", "blocking"), ("warns", "warnings")))  # fmt: skip
    passed = [{"what": "passes", "reason": one["reason"]} for one in found["verdicts"] if one["result"] == "passed"]
    output.show([*blocking, *warnings, *passed])


def list_gates() -> None:
    """List gates, oldest first."""
    found = connect().get(f"{PATH}/gates", limit=200)
    columns = ("id", "scope", "target", "metric", "comparator", "threshold", "lookback_seconds", "samples", "severity")
    output.show(found if output.as_json else found["items"], columns=columns)


def add_gate(
    metric: Annotated[str, typer.Argument(help="What is measured; see docs/quality.md.")],
    comparator: Annotated[Comparator, typer.Argument(help="How it is held against the threshold.")],
    threshold: Annotated[float, typer.Argument(help="In the metric's unit; of no_worse the loss that is tolerated.")],
    role: Role = "",
    deployment: Deployment = "",
    last: Last = "7d",
    samples: Annotated[int, typer.Option("--samples", help="Below, the figure is unknown.")] = 30,
    warn: Annotated[bool, typer.Option("--warn", help="Only warn; else it blocks.")] = False,
) -> None:
    """Let promotions depend on one more figure: of a role, a deployment, or of the whole organization."""
    client = connect()
    body: dict[str, Any] = {**_scope(client, role, deployment), "metric": metric, "comparator": comparator}
    body |= {"threshold": threshold, "lookback_seconds": _seconds(last), "samples": samples}
    body["severity"] = Severity.WARN if warn else Severity.BLOCKER
    output.show(client.post(f"{PATH}/gates", body))


def remove_gate(gate: Annotated[str, typer.Argument(metavar="GATE", help="A gate's id.")]) -> None:
    """Remove a gate."""
    connect().delete(f"{PATH}/gates/{gate}")
    output.show({"id": gate, "removed": True})


def freeze(reason: Reason, role: Role = "", agent: Agent = "") -> None:
    """Let nothing be promoted, whatever the data say: of an agent, a role, or of the whole organization."""
    output.show(connect().post(f"{PATH}/freezes", {**_frozen(role, agent), "reason": reason}))


def unfreeze(reason: Reason, role: Role = "", agent: Agent = "") -> None:
    """Lift a freeze."""
    client, about = connect(), _frozen(role, agent)
    for one in _in_force(client):
        if (one["scope"], one["target"]) == (about["scope"], about["target"]):
            output.show(client.post(f"{PATH}/freezes/{one['id']}/lift", {"reason": reason}))
            return
    raise FreezeUnknown(
        f"{about['scope']} {about['target']} is not frozen".replace("  ", " "), then="See 'agentos quality freezes'."
    )


def freezes() -> None:
    """List freezes in force, oldest first."""
    found = _in_force(connect())
    columns = ("id", "scope", "target", "reason", "frozen_by", "frozen_at")
    output.show({"items": found} if output.as_json else found, columns=columns)


def list_recommendations(
    standing: Annotated[str, typer.Option("--standing", help="open, accepted, dismissed or resolved; else all.")] = "",
) -> None:
    """List what the figures recommend, newest first."""
    query = {"standing": standing} if standing else {}
    found = connect().get(f"{PATH}/recommendations", limit=200, **query)
    _advised(found)


def look(role: Role = "", deployment: Deployment = "") -> None:
    """Look at a role, a deployment or the organization now, and open what its figures recommend."""
    client = connect()
    _advised(client.post(f"{PATH}/recommendations", _scope(client, role, deployment)))


Recommendation = Annotated[str, typer.Argument(metavar="RECOMMENDATION", help="A recommendation's id.")]


def accept(recommendation: Recommendation, reason: Reason) -> None:
    """Say that somebody is at it."""
    _settle(recommendation, Standing.ACCEPTED, reason)


def dismiss(recommendation: Recommendation, reason: Reason) -> None:
    """Say that nothing will be done; the same is not recommended again for a week."""
    _settle(recommendation, Standing.DISMISSED, reason)


def resolve_recommendation(recommendation: Recommendation, reason: Reason) -> None:
    """Say that it is done."""
    _settle(recommendation, Standing.RESOLVED, reason)


def _settle(recommendation: str, standing: Standing, reason: str) -> None:
    body = {"standing": standing, "reason": reason}
    output.show(connect().post(f"{PATH}/recommendations/{recommendation}", body))


def _advised(found: Any) -> None:
    columns = ("id", "kind", "scope", "target", "standing", "text", "changed_by", "reason")
    output.show(found if output.as_json else found["items"], columns=columns)


def _figures(page: str, role: str, deployment: str, **query: Any) -> Any:
    client = connect()
    return client.get(f"{PATH}/{page}", **_scope(client, role, deployment), **query)


def _scope(client: Client, role: str, deployment: str) -> dict[str, str]:
    if role and deployment:
        raise ScopeInvalid("both a role and a deployment are named", then="Name one, or none for the organization.")
    if deployment:
        return {"scope": "deployment", "target": resolve(client, deployment)}
    return {"scope": "role", "target": role} if role else {"scope": "organization", "target": ""}


def _in_force(client: Client) -> list[dict[str, Any]]:
    """Every freeze in force."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = client.get(f"{PATH}/freezes", limit=200, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def _frozen(role: str, agent: str) -> dict[str, str]:
    if role and agent:
        raise ScopeInvalid("both a role and an agent are named", then="Name one, or none for the organization.")
    if agent:
        return {"scope": "agent", "target": agent}
    return {"scope": "role", "target": role} if role else {"scope": "organization", "target": ""}


def _known(figure: dict[str, Any], *names: str) -> dict[str, Any]:
    """A figure for people: rounded, and unknown in words."""
    shown = names or ("value", "low", "high", "by_chance", "counted")
    return {
        name: value if name not in shown else "unknown" if value is None else round(value, 4)
        for name, value in figure.items()
    }


def _seconds(text: str) -> int:
    return int(duration(text).total_seconds())
