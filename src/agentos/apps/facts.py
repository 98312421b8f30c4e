"""Every fact there is. A process knows the facts of the modules that it has loaded; here all of them are."""

from __future__ import annotations

from collections.abc import Mapping
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
from agentos.runtime.skills import model as skills

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
    skills,
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


# What has to be in the ledger, and the facts that tell it. The reference's page of facts is made of this.
COVERED: Final[Mapping[str, tuple[type[Fact], ...]]] = {
    "decisions": (runs.StepsJournaled, approvals.ApprovalDecided, runs.DraftMade),
    "effects": (runs.StepsJournaled, runs.EffectUncertain, runs.EffectSettled),
    "approvals": (
        approvals.ApprovalRequested,
        approvals.ApprovalPassed,
        approvals.ApprovalReminded,
        approvals.ApprovalSlaMissed,
        approvals.ApprovalEscalated,
        approvals.ApprovalRerouted,
        approvals.ApprovalDecided,
        approvals.ApprovalExpired,
        approvals.RoutingChanged,
    ),
    "stops": (stops.StopOrdered, stops.StopLifted, runs.RunOrdered),
    "changes of deployments": (
        deployments.DeploymentCreated,
        deployments.RevisionDrafted,
        deployments.VersionPromoted,
        deployments.VersionRolledBack,
        deployments.DeploymentPaused,
        deployments.DeploymentResumed,
        deployments.DeploymentRetired,
        deployments.TierChanged,
        deployments.CanaryStarted,
        deployments.CanaryResized,
        deployments.CanaryEnded,
        rollouts.PromotionRefused,
        rollouts.GatesOverridden,
        rollouts.CanaryBreached,
        rollouts.RollbackValidated,
        shadows.ShadowStarted,
        shadows.ShadowEnded,
    ),
    "access to secrets": (runs.StepsJournaled, identity.SecretRead, identity.KeyCreated, identity.KeyRevoked),
    "logins": (identity.SignedIn, identity.SignedOut, identity.AccessRefused),
    "actions of operators": (
        identity.OrganizationFounded,
        identity.PersonAdded,
        identity.PersonChanged,
        agents.AgentApplied,
        agents.VersionCreated,
        policies.PolicyChanged,
        privacy.PrivacyRulesChanged,
        budgets.BudgetChanged,
        budgets.PriceChanged,
        skills.SkillsRegistered,
        skills.SkillRestored,
        triggers.TriggerAdded,
        triggers.TriggerChanged,
        triggers.TriggerRemoved,
        runs.RunAccepted,
        runs.DraftSubmitted,
        runs.DraftDiscarded,
        inbox.AddressesChanged,
        inbox.WorkspaceConnected,
        inbox.WorkspaceDisconnected,
        inbox.ThreadOpened,
        inbox.MessageReceived,
        inbox.AnswerGiven,
        subscriptions.SubscriptionAdded,
        subscriptions.SubscriptionChanged,
        subscriptions.SubscriptionRemoved,
        subscriptions.DeliveryRetried,
        notifications.NotificationRetried,
        gateway.ModelAsked,
        replay.RunReplayed,
        replay.ReplayAsked,
        quality.FeedbackGiven,
        recommendations.RecommendationSettled,
        quality.GateAdded,
        quality.GateRemoved,
        quality.PromotionFrozen,
        quality.PromotionUnfrozen,
        evals.DatasetAdded,
        evals.EvalStarted,
        evals.EvalCancelled,
        ledger.LedgerVerified,
    ),
    "what the platform did and noticed": (
        runs.RunEnded,
        runs.MessagesUnread,
        triggers.TriggerFired,
        triggers.FiringsMissed,
        inbox.AnswerSettled,
        inbox.InboxAlerted,
        privacy.PersonalDataRedacted,
        budgets.BudgetReached,
        budgets.BudgetOvershot,
        budgets.ReserveLost,
        subscriptions.DeliveryGivenUp,
        notifications.NotificationGivenUp,
        recommendations.RecommendationOpened,
        evals.EvalAsked,
        evals.EvalEnded,
    ),
}


def told_outside() -> tuple[type[Fact], ...]:
    """The kinds of fact that outside systems may subscribe to."""
    return tuple(kind for kind in every_fact() if kind not in FOR_THE_LEDGER)


def every_fact() -> tuple[type[Fact], ...]:
    """The kinds of fact of every feature."""
    modules = {source.__name__ for source in SOURCES}
    return tuple(kind for kind in Fact.kinds.values() if kind.__module__ in modules)
