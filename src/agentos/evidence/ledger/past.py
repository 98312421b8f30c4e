"""What was in force at a moment, told by the ledger's entries up to it and by nothing that can be changed afterwards.

What no entry tells is "unknown": a deployment from before the ledger has whatever was not changed since. Stops of every
organization are told in the ledger of whoever ordered them, so they are read from the stops themselves. Which switches
of models were set, no entry tells: they are settings of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agentos.control.policy.model import Tier

UNKNOWN: Final = "unknown"
KINDS: Final = ("deployments", "stops", "policies", "budgets", "prices", "rules", "gates", "freezes")
BEGINS: Final = "OrganizationFounded"  # a chain that begins with it tells of all that was ever set
State = dict[str, dict[str, dict[str, Any]]]  # kind → id → what is known
Change = Callable[[State, Mapping[str, Any]], None]


_PLACE: Final = ("agent_id", "environment", "version", "revision", "canary", "shadow", "tier", "state")


def _deployment(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    blank = dict.fromkeys(_PLACE, UNKNOWN)
    return state["deployments"].setdefault(body["deployment_id"], blank)


def _created(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(
        agent_id=body["agent_id"],
        environment=body["environment"],
        version=None,
        revision=0,
        canary=None,
        shadow=None,
        tier=_tier(body.get("tier")),
        state="active",
    )


def _serves(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(version=body["version"], revision=body["revision"])


def _tried(state: State, body: Mapping[str, Any]) -> None:
    canary = {name: body[name] for name in ("version", "revision", "percent")}
    _deployment(state, body).update(canary=canary)


def _tried_no_more(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(canary=None)


def _shown(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(shadow={name: body[name] for name in ("version", "percent", "live")})


def _shown_no_more(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(shadow=None)


def _became(what: str) -> Change:
    def change(state: State, body: Mapping[str, Any]) -> None:
        _deployment(state, body).update(state=what)

    return change


def _tiered(state: State, body: Mapping[str, Any]) -> None:
    _deployment(state, body).update(tier=_tier(body["tier"]))


def _stopped(state: State, body: Mapping[str, Any]) -> None:
    if body["scope"] != "global":
        told = {name: body[name] for name in ("kind", "scope", "target")}
        state["stops"][body["stop_id"]] = {**told, "ordered_by": body["by"]}


def _lifted(state: State, body: Mapping[str, Any]) -> None:
    state["stops"].pop(body["stop_id"], None)


def _ruled(state: State, body: Mapping[str, Any]) -> None:
    state["policies"][body["scope"]] = {"number": body["number"], "policy": body["policy"]}


def _capped(state: State, body: Mapping[str, Any]) -> None:
    caps = {name: body[name] for name in ("money", "tokens", "steps", "seconds")}
    name = f"{body['subject']} {body['period']}"
    if all(one is None for one in caps.values()):
        state["budgets"].pop(name, None)
    else:
        state["budgets"][name] = caps


def _priced(state: State, body: Mapping[str, Any]) -> None:
    name = f"{body['provider']} {body['model']}".strip()
    if body["removed"]:
        state["prices"].pop(name, None)
    else:
        state["prices"][name] = {"price": UNKNOWN, "set_by": body["by"]}


def _regulated(what: str) -> Change:
    def change(state: State, body: Mapping[str, Any]) -> None:
        state["rules"][what] = {"digest": body["digest"], "set_by": body["by"]}

    return change


_CONDITION: Final = ("scope", "target", "metric", "comparator", "threshold", "lookback_seconds", "samples", "severity")


def _gated(state: State, body: Mapping[str, Any]) -> None:
    state["gates"][body["gate_id"]] = {name: body[name] for name in _CONDITION}


def _gated_no_more(state: State, body: Mapping[str, Any]) -> None:
    state["gates"].pop(body["gate_id"], None)


def _frozen(state: State, body: Mapping[str, Any]) -> None:
    told = {name: body[name] for name in ("scope", "target")}
    state["freezes"][body["freeze_id"]] = {**told, "ordered_by": body["by"]}


def _frozen_no_more(state: State, body: Mapping[str, Any]) -> None:
    state["freezes"].pop(body["freeze_id"], None)


CHANGES: Final[Mapping[str, Change]] = {
    "DeploymentCreated": _created,
    "VersionPromoted": _serves,
    "VersionRolledBack": _serves,
    "CanaryStarted": _tried,
    "CanaryResized": _tried,
    "CanaryEnded": _tried_no_more,
    "ShadowStarted": _shown,
    "ShadowEnded": _shown_no_more,
    "DeploymentPaused": _became("paused"),
    "DeploymentResumed": _became("active"),
    "DeploymentRetired": _became("retired"),
    "TierChanged": _tiered,
    "StopOrdered": _stopped,
    "StopLifted": _lifted,
    "PolicyChanged": _ruled,
    "BudgetChanged": _capped,
    "PriceChanged": _priced,
    "RoutingChanged": _regulated("routing"),
    "PrivacyRulesChanged": _regulated("privacy"),
    "GateAdded": _gated,
    "GateRemoved": _gated_no_more,
    "PromotionFrozen": _frozen,
    "PromotionUnfrozen": _frozen_no_more,
}


def nothing() -> State:
    """What is in force before any entry."""
    return {kind: {} for kind in KINDS}


def go_on(state: State, told: Iterable[tuple[str, bytes]]) -> None:
    """Make of a state what was in force after these entries, too: their facts' names and bodies, oldest first."""
    for name, body in told:
        CHANGES[name](state, msgspec.json.decode(body))


def changed(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What differs between two states: each thing that came, went or is otherwise."""
    found = []
    for kind in KINDS:
        was, now = before[kind], after[kind]
        for name in sorted({*was, *now}):
            if was.get(name) != now.get(name):
                found.append({"kind": kind, "id": name, "before": was.get(name), "after": now.get(name)})
    return found


def moment(at: datetime, first: datetime | None, last: datetime | None, *, is_complete: bool) -> dict[str, Any]:
    """How far the ledger's word reaches: nothing is known from before its first entry."""
    reach = {"ledger_from": first or UNKNOWN, "ledger_to": last or UNKNOWN, "is_complete": is_complete}
    return {"at": at, **reach, "model_switches": UNKNOWN}


def _tier(number: Any) -> str:
    return UNKNOWN if number is None else Tier(number).name
