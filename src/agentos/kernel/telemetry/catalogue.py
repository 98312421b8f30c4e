"""Every metric there is: name, kind, labels, unit, and the names the operations runbooks use for it.

An alert or a dashboard may only name what stands here. Base units; no run or user ids as labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# Seconds from a fast skill call (~1 ms) to the longest answers of a model, with the runbooks' thresholds (10, 30, 60
# and 120 s) as bounds, so that a quantile near them is not interpolated across them.
SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 3600)


@dataclass(frozen=True, slots=True)
class Sum:
    """A counter under another name, added up over one of its labels.

    The runbooks divide one metric by another, and Prometheus pairs only series with equal labels. ``but``: the value of
    the label that is left out; what is left may be 0, and is told as soon as anything was counted.
    """

    name: str
    over: str
    but: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measurement and all the names it is exported under."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    help: str
    also: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS
    sums: tuple[Sum, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it is exported under, its own first."""
        return (self.name, *self.also, *(one.name for one in self.sums))


_WHERE = ("org", "agent_id", "deployment")

RUNS = Metric(
    "agentos_runs_total",
    "counter",
    "runs",
    (*_WHERE, "status"),
    "Runs that ended, by status.",
    ("drovi_agent_runs_status_total",),
)
RUN_SECONDS = Metric(
    "agentos_run_duration_seconds",
    "histogram",
    "seconds",
    (*_WHERE, "status"),
    "From acceptance to the end of a run.",
    ("drovi_agent_run_duration_seconds", "agent_processing_seconds"),
)
RUNS_OPEN = Metric(
    "agentos_runs_open", "gauge", "runs", (*_WHERE, "status"), "Runs that have not ended, by status; stored state."
)
PROMOTIONS = Metric(
    "agentos_promotions_total",
    "counter",
    "orders",
    (*_WHERE, "outcome"),
    "Orders to let a version serve: promoted, canary, forced (past gates), refused (by a gate), frozen.",
)
CANARY_RATIO = Metric(
    "agentos_canary_ratio", "gauge", "share", _WHERE, "Share of the runs that the canary serves; stored state."
)
ROLLBACKS = Metric(
    "agentos_rollbacks_total",
    "counter",
    "rollbacks",
    (*_WHERE, "cause"),
    "Versions that were taken out of service: ordered by somebody, or a canary by itself.",
)
SHADOW_RUNS = Metric(
    "agentos_shadow_runs_total",
    "counter",
    "runs",
    (*_WHERE, "outcome"),
    "Runs that were shown to a shadow: same, changed or unknown outcome.",
)
APPROVALS_PENDING = Metric(
    "agentos_approvals_pending",
    "gauge",
    "approvals",
    ("org",),
    "Approvals that wait for a person; stored state.",
    ("drovi_agent_approval_backlog",),
)
APPROVAL_CLOCK = Metric(
    "agentos_approval_clock_total",
    "counter",
    "approvals",
    ("org", "did"),
    "What the clock did with approvals that nobody answered: reminded, sla_missed, escalated, expired.",
)
APPROVAL_SECONDS = Metric(
    "agentos_approval_answer_seconds",
    "histogram",
    "seconds",
    ("org", "status"),
    "From the question to its decision by people, by status.",
)
ERRORS = Metric(
    "agentos_errors_total",
    "counter",
    "errors",
    (*_WHERE, "code"),
    "Errors that ended a run, a model call or a skill call, by stable code.",
    ("agent_errors_total",),
)
STEPS = Metric("agentos_steps_total", "counter", "steps", (*_WHERE, "kind", "status"), "Steps that were journaled.")
DECISIONS = Metric(
    "agentos_policy_decisions_total", "counter", "decisions", (*_WHERE, "verdict"), "Policy decisions, by verdict."
)
PERSONAL_DATA = Metric(
    "agentos_personal_data_redacted_total",
    "counter",
    "values",
    ("place", "kind"),
    "Values of personal data that were kept back, by place (logs, answers, prompts, notifications, exports) and kind.",
)
MODEL_CALLS = Metric(
    "agentos_model_calls_total",
    "counter",
    "calls",
    (*_WHERE, "provider", "status"),
    "Calls to models, by ok or the stable code of their error; provider says 'stub' where it was one.",
    sums=(Sum("aos_llm_calls_total", over="status"), Sum("aos_llm_errors_total", over="status", but="ok")),
)
MODEL_SECONDS = Metric(
    "agentos_model_call_duration_seconds",
    "histogram",
    "seconds",
    ("provider",),
    "From asking a model to its whole answer, or to its error; what calls wait for before is not in it.",
    ("aos_llm_latency_seconds",),
)
MODEL_TOKENS = Metric(
    "agentos_model_tokens_total",
    "counter",
    "tokens",
    (*_WHERE, "provider", "direction"),
    "Tokens in and out.",
    ("aos_llm_tokens_total",),
)
MODEL_COST = Metric(
    "agentos_model_cost_dollars_total",
    "counter",
    "US dollars",
    (*_WHERE, "provider"),
    "What calls to models cost by the prices in force; calls of unknown cost at what was reserved for them.",
    ("aos_llm_cost_dollars_total",),
)
MODEL_COST_UNKNOWN = Metric(
    "agentos_model_cost_unknown_total",
    "counter",
    "calls",
    (*_WHERE, "provider"),
    "Calls to models whose provider did not say what they used; they count as what was reserved for them.",
)
MODEL_FALLBACKS = Metric(
    "agentos_model_fallbacks_total",
    "counter",
    "calls",
    ("provider", "to"),
    "Calls that another model than the first of their plan answered.",
)
MODEL_SKIPS = Metric(
    "agentos_model_skips_total",
    "counter",
    "hops",
    ("provider", "reason"),
    "Models of a plan that were not asked: away (breaker, asked to wait), not_allowed (stop, budget, context), "
    "no_room (place, limit, time) or not_configured.",
)
MODEL_BREAKERS = Metric(
    "agentos_model_breaker_state",
    "gauge",
    "state",
    ("provider", "model"),
    "Breakers that ever opened: 0 closed, 1 half-open, 2 open.",
)
MODEL_LIMIT_SECONDS = Metric(
    "agentos_model_rate_limit_wait_seconds",
    "histogram",
    "seconds",
    ("provider",),
    "How long calls waited for their turn in a provider's shared limit.",
)
BUDGET_OVERSHOTS = Metric(
    "agentos_budget_overshots_total",
    "counter",
    "calls",
    (*_WHERE, "provider"),
    "Calls to models that cost more than was reserved for them.",
)
BUDGET_REFUSALS = Metric(
    "agentos_budget_refusals_total",
    "counter",
    "calls",
    (*_WHERE, "cap", "period", "resource"),
    "Calls to models that were not made because a cap had no room; cap is organization, agent or version.",
)
SKILL_SECONDS = Metric(
    "agentos_skill_call_duration_seconds",
    "histogram",
    "seconds",
    ("skill", "status"),
    "One attempt at a skill call.",
    ("aos_skill_duration_seconds",),
)
SKILLS_LOADED = Metric(
    "agentos_skills_loaded", "gauge", "skills", (), "Skills that this process loaded, those withheld included."
)
REGISTRY_SIZE = Metric(
    "agentos_registry_size",
    "gauge",
    "skills",
    (),
    "Versions of skills in the platform's registry; stored state.",
    ("aos_registry_size",),
)
REGISTRY_OPERATIONS = Metric(
    "agentos_registry_operations_total",
    "counter",
    "operations",
    ("operation",),
    "Operations on the registry of skills: found, missing, changed, withheld and resolved look-ups; registered, "
    "conflict and refused registrations.",
    ("aos_registry_operations_total",),
)
DETERMINISM_DRIFT = Metric(
    "agentos_determinism_drift",
    "gauge",
    "runs",
    ("org", "agent_id", "step"),
    "Runs whose last replay parted from their recording, by the step where; stored state. 0: replayed, and none did.",
    ("aos_determinism_drift",),
)
EVALS = Metric(
    "agentos_evals_total", "counter", "evals", ("org", "agent_id", "status"), "Evals that came to an end, by status."
)
EVAL_SECONDS = Metric(
    "agentos_eval_duration_seconds",
    "histogram",
    "seconds",
    ("org", "agent_id", "status"),
    "From the start of an eval to its end.",
)
EVAL_CASES = Metric(
    "agentos_eval_cases_total",
    "counter",
    "cases",
    ("org", "agent_id", "outcome"),
    "Executions of cases: passed, missed, or left because nothing could be said.",
)
QUALITY_DRIFT = Metric(
    "agentos_quality_drift",
    "gauge",
    "0 to 1",
    ("org", "scope", "target"),
    "How far the runs of the last day are from those of the week before, by role (a category) and by deployment; "
    "stored state. Absent where it is unknown.",
    ("drovi_agent_quality_drift_score",),
)
TAKEOVERS = Metric(
    "agentos_segment_takeovers_total", "counter", "segments", (), "Segments started again after their worker was lost."
)
EFFECTS_UNCERTAIN = Metric(
    "agentos_effects_uncertain_total", "counter", "effects", _WHERE, "Effects whose end only a person could tell."
)
STOP_SECONDS = Metric(
    "agentos_stop_to_rest_seconds",
    "histogram",
    "seconds",
    ("kind", "scope"),
    "From the order of a kill or pause until a run that was at work is at rest; the slowest is the time to stop.",
    (),
    (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120),
)
SWEPT = Metric(
    "agentos_runs_restarted_total", "counter", "runs", (), "Runs whose workflow was gone and was made again."
)
OUTBOX_LAG = Metric(
    "agentos_outbox_lag", "gauge", "facts", ("consumer",), "Facts a consumer has yet to pass; stored state."
)
OUTBOX_FAILURES = Metric(
    "agentos_outbox_failures", "gauge", "facts", ("consumer",), "Facts that were set aside; stored state."
)
FIRINGS = Metric(
    "agentos_firings_total",
    "counter",
    "firings",
    ("kind", "outcome"),
    "Firings of triggers: admitted as a run, held (queued or skipped), or refused.",
)
EVENTS_TAKEN = Metric(
    "agentos_events_taken_total",
    "counter",
    "events",
    ("outcome",),
    "Events that came over a bus: fired a trigger, came again, matched none, or were refused as no event.",
)
EVENTS_LAG = Metric("agentos_events_lag", "gauge", "events", ("topic",), "Events on the bus that are yet to be taken.")
SCHEDULE_LATENESS = Metric(
    "agentos_schedule_lateness_seconds",
    "histogram",
    "seconds",
    (),
    "From the moment that a schedule names to its firing.",
)
ACCESS_REFUSED = Metric(
    "agentos_access_refused_total",
    "counter",
    "attempts",
    ("reason",),
    "Attempts that were refused: no key, a key that opens nothing, or a permission that was missing.",
)
EVENT_DELIVERIES = Metric(
    "agentos_event_deliveries_total",
    "counter",
    "tries",
    ("org", "outcome"),
    "Tries to tell outside systems of facts: delivered, retried, held (no secret), gone (410), given_up, late.",
)
EVENT_SECONDS = Metric(
    "agentos_event_delivery_duration_seconds",
    "histogram",
    "seconds",
    ("outcome",),
    "From sending an event to the receiver's answer.",
)
DELIVERIES_PENDING = Metric(
    "agentos_event_deliveries_pending", "gauge", "deliveries", ("org",), "Events yet to be delivered; stored state."
)
DELIVERIES_DEAD = Metric(
    "agentos_event_dead_letters", "gauge", "deliveries", ("org",), "Events that were given up; stored state."
)
NOTIFICATIONS = Metric(
    "agentos_notifications_total",
    "counter",
    "tries",
    ("org", "channel", "outcome"),
    "Tries to tell people: sent, retried, held (no secret), moot (nothing left to say), given_up, late.",
)
NOTIFICATION_SECONDS = Metric(
    "agentos_notification_duration_seconds",
    "histogram",
    "seconds",
    ("channel", "outcome"),
    "From putting a message to a person together to the channel's answer.",
)
NOTIFICATIONS_PENDING = Metric(
    "agentos_notifications_pending", "gauge", "messages", ("org",), "Messages yet to be sent to people; stored state."
)
NOTIFICATIONS_DEAD = Metric(
    "agentos_notifications_dead_letters",
    "gauge",
    "messages",
    ("org",),
    "Messages to people that were given up; stored state.",
)
ARTIFACTS = Metric(
    "agentos_artifacts_total",
    "counter",
    "artifacts",
    ("org",),
    "Artifacts that were found in journals for the first time.",
)
EMBEDDING_ERRORS = Metric(
    "agentos_embedding_errors_total",
    "counter",
    "errors",
    ("code",),
    "Times that no embeddings were made, by the error's code; words find what they would have.",
)
EVIDENCE_SEARCHES = Metric(
    "agentos_evidence_searches_total",
    "counter",
    "searches",
    ("org", "kind", "outcome"),
    "Searches (kind search) and questions (kind ask) over evidence: found, nothing, unknown, or an error's code.",
)
EVIDENCE_SECONDS = Metric(
    "agentos_evidence_search_duration_seconds",
    "histogram",
    "seconds",
    ("kind",),
    "From a search or a question over evidence to its answer.",
)
HTTP_SECONDS = Metric(
    "agentos_http_request_duration_seconds",
    "histogram",
    "seconds",
    ("route", "method", "status"),
    "Answers of the API.",
    (),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)

LEDGER_ENTRIES = Metric("agentos_ledger_entries", "gauge", "entries", ("org",), "Entries of the ledger; stored state.")
LEDGER_WAITING = Metric(
    "agentos_ledger_waiting", "gauge", "facts", (), "Facts that were written and are not chained yet; stored state."
)
LEDGER_LAG = Metric(
    "agentos_ledger_lag_seconds", "gauge", "seconds", (), "For how long the oldest fact has waited to be chained."
)
LEDGER_ANCHOR_AGE = Metric(
    "agentos_ledger_anchor_age_seconds",
    "gauge",
    "seconds",
    (),
    "For how long the oldest entry has stood without an anchor; absent while anchors cannot be read.",
)
LEDGER_SOUND = Metric(
    "agentos_ledger_sound",
    "gauge",
    "bool",
    ("org",),
    "What 'agentos audit verify' found last: 1 every link holds, 0 one does not; absent before the first look, and "
    "when a key is absent.",
)
LEDGER_VERIFIED_AGE = Metric(
    "agentos_ledger_verified_age_seconds", "gauge", "seconds", ("org",), "Since the whole ledger was last verified."
)
LEDGER_ANCHOR_ERRORS = Metric(
    "agentos_ledger_anchor_errors_total",
    "counter",
    "anchors",
    ("code",),
    "Times that ends could not be anchored (anchors_unusable), and files that were found cut or replaced (anchors_cut) "
    "or with a torn line (anchors_torn).",
)
LEDGER_FACTS_AMISS = Metric(
    "agentos_ledger_facts_amiss_total",
    "counter",
    "facts",
    ("org", "seal"),
    "Facts that were changed (broken), or written past the platform (missing), before they were chained.",
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    RUNS,
    RUN_SECONDS,
    RUNS_OPEN,
    PROMOTIONS,
    CANARY_RATIO,
    ROLLBACKS,
    SHADOW_RUNS,
    APPROVALS_PENDING,
    APPROVAL_CLOCK,
    APPROVAL_SECONDS,
    ERRORS,
    STEPS,
    DECISIONS,
    PERSONAL_DATA,
    MODEL_CALLS,
    MODEL_SECONDS,
    MODEL_TOKENS,
    MODEL_COST,
    MODEL_COST_UNKNOWN,
    MODEL_FALLBACKS,
    MODEL_SKIPS,
    MODEL_BREAKERS,
    MODEL_LIMIT_SECONDS,
    BUDGET_OVERSHOTS,
    BUDGET_REFUSALS,
    SKILL_SECONDS,
    SKILLS_LOADED,
    REGISTRY_SIZE,
    REGISTRY_OPERATIONS,
    DETERMINISM_DRIFT,
    EVALS,
    EVAL_SECONDS,
    EVAL_CASES,
    QUALITY_DRIFT,
    TAKEOVERS,
    EFFECTS_UNCERTAIN,
    STOP_SECONDS,
    SWEPT,
    OUTBOX_LAG,
    OUTBOX_FAILURES,
    FIRINGS,
    EVENTS_TAKEN,
    EVENTS_LAG,
    SCHEDULE_LATENESS,
    ACCESS_REFUSED,
    EVENT_DELIVERIES,
    EVENT_SECONDS,
    DELIVERIES_PENDING,
    DELIVERIES_DEAD,
    NOTIFICATIONS,
    NOTIFICATION_SECONDS,
    NOTIFICATIONS_PENDING,
    NOTIFICATIONS_DEAD,
    LEDGER_ENTRIES,
    LEDGER_WAITING,
    LEDGER_LAG,
    LEDGER_ANCHOR_AGE,
    LEDGER_SOUND,
    LEDGER_VERIFIED_AGE,
    LEDGER_ANCHOR_ERRORS,
    LEDGER_FACTS_AMISS,
    ARTIFACTS,
    EMBEDDING_ERRORS,
    EVIDENCE_SEARCHES,
    EVIDENCE_SECONDS,
    HTTP_SECONDS,
)
