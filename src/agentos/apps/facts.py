"""Every fact there is. A process knows the facts of the modules that it has loaded; here all of them are."""

from __future__ import annotations

from typing import Final

from agentos.control.agents import model as agents
from agentos.control.approvals import model as approvals
from agentos.control.budgets import model as budgets
from agentos.control.deployments import model as deployments
from agentos.control.policy import model as policies
from agentos.control.privacy import model as privacy
from agentos.control.stops import model as stops
from agentos.evidence.evals import model as evals
from agentos.evidence.ledger import model as ledger
from agentos.evidence.quality import model as quality
from agentos.evidence.recommendations import model as recommendations
from agentos.evidence.replay import model as replay
from agentos.evidence.subscriptions import model as subscriptions
from agentos.intake.identity import model as identity
from agentos.intake.inbox import model as inbox
from agentos.intake.triggers import model as triggers
from agentos.kernel.facts import Fact
from agentos.operations.notifications import model as notifications
from agentos.operations.rollouts import model as rollouts
from agentos.operations.shadows import model as shadows
from agentos.runtime.gateway import model as gateway
from agentos.runtime.runs import model as runs

# A feature with facts adds its model; a test finds one that is missing.
SOURCES: Final = (
    identity,
    inbox,
    triggers,
    agents,
    deployments,
    policies,
    stops,
    approvals,
    budgets,
    privacy,
    runs,
    gateway,
    replay,
    evals,
    quality,
    recommendations,
    ledger,
    subscriptions,
    notifications,
    rollouts,
    shadows,
)


# What only the ledger reads: so many that nobody could be told of each.
FOR_THE_LEDGER: Final = (runs.StepsJournaled, identity.SecretRead)


def told_outside() -> tuple[type[Fact], ...]:
    """The kinds of fact that outside systems may subscribe to."""
    return tuple(kind for kind in every_fact() if kind not in FOR_THE_LEDGER)


def every_fact() -> tuple[type[Fact], ...]:
    """The kinds of fact of every feature."""
    modules = {source.__name__ for source in SOURCES}
    return tuple(kind for kind in Fact.kinds.values() if kind.__module__ in modules)
