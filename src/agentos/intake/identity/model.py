"""Who is asking, and what each may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from agentos.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import KeyId, OrgId, PersonId

# A machine's key is renewed every quarter unless it says otherwise, and no key of a machine lasts longer than a year.
MACHINE_KEY_LASTS: Final = timedelta(days=90)
LONGEST_KEY: Final = timedelta(days=366)
# After a rotation the old key goes on for a while, a day if nobody says otherwise, until the new one is deployed.
LONGEST_OVERLAP: Final = timedelta(days=30)


class Unauthorized(Forbidden):
    """No key, or one that opens nothing."""

    code = "unauthorized"
    status = 401


class NotAllowed(Forbidden):
    """The caller's role or the key's scopes do not cover this."""

    code = "not_allowed"


class PersonUnknown(NotFound):
    """No such person in this organization."""

    code = "person_unknown"


class PersonKnown(Conflict):
    """The organization has a person of this handle already."""

    code = "person_known"


class LastAdmin(Conflict):
    """An organization keeps at least one admin who may act."""

    code = "last_admin"


class KeyUnknown(NotFound):
    """No such key in this organization."""

    code = "key_unknown"


class KeyClosed(Conflict):
    """The key was revoked or has expired."""

    code = "key_closed"


class OidcNotConfigured(NotFound):
    """There is no identity provider to sign in with."""

    code = "oidc_not_configured"


class ProviderAway(Unavailable):
    """The identity provider does not answer as it should."""

    code = "identity_provider_unavailable"


class PasswordRefused(Invalid):
    """A password that is too short or too long to be one."""

    code = "password_refused"


class BadKeyRequest(Invalid):
    """A key was asked for that nobody can have."""

    code = "bad_key_request"


class Permission(StrEnum):
    """What a role allows, and what a key may be narrowed to."""

    READ = "read"
    START_RUNS = "runs.start"
    ASK_MODELS = "models.ask"
    ORDER_RUNS = "runs.order"
    REPLAY_RUNS = "runs.replay"
    RUN_EVALS = "evals.run"
    SETTLE_EFFECTS = "effects.settle"
    SUBMIT_DRAFTS = "drafts.submit"
    ANSWER_APPROVALS = "approvals.answer"
    REROUTE_APPROVALS = "approvals.reroute"
    CHANGE_ROUTING = "approvals.routing"
    APPLY_AGENTS = "agents.apply"
    CHANGE_DEPLOYMENTS = "deployments.change"
    OVERRIDE_GATES = "gates.override"
    CHANGE_POLICIES = "policies.change"
    CHANGE_TRIGGERS = "triggers.change"
    SEND_EVENTS = "events.send"
    CHANGE_SUBSCRIPTIONS = "subscriptions.change"
    CHANGE_BUDGETS = "budgets.change"
    GIVE_FEEDBACK = "quality.feedback"
    FREEZE_PROMOTION = "quality.freeze"
    CHANGE_GATES = "quality.gates"
    TEST_MODELS = "models.test"
    WRITE_INBOX = "inbox.write"
    CHANGE_PRIVACY = "privacy.change"
    SEE_PERSONAL_DATA = "personal_data.see"
    READ_LEDGER = "ledger.read"
    CHANGE_IDENTITY = "identity.change"
    ORDER_STOPS = "stops.order"
    STOP_ORGANIZATION = "stops.organization"
    STOP_EVERYTHING = "stops.everything"

    @property
    def means(self) -> str:
        """The permission in words."""
        return _MEANS[self]


_MEANS: Final = {
    Permission.READ: "see agents, deployments, runs, journals, approvals and drafts",
    Permission.START_RUNS: "start runs",
    Permission.ASK_MODELS: "ask models directly, as an OpenAI or Anthropic client does",
    Permission.ORDER_RUNS: "cancel, pause and resume runs, and write to them",
    Permission.REPLAY_RUNS: "execute recorded runs again, also under another version, model or policy",
    Permission.RUN_EVALS: "add data sets, and examine versions on them, which asks models",
    Permission.SETTLE_EFFECTS: "say whether an uncertain effect happened",
    Permission.SUBMIT_DRAFTS: "submit and discard drafts",
    Permission.ANSWER_APPROVALS: "answer approvals",
    Permission.REROUTE_APPROVALS: "hand waiting approvals to other people",
    Permission.CHANGE_ROUTING: "say who is asked to approve, and by when",
    Permission.APPLY_AGENTS: "apply manifests, which makes versions",
    Permission.CHANGE_DEPLOYMENTS: "create, promote, roll back, pause and retire deployments, and set their tier",
    Permission.OVERRIDE_GATES: "let a version serve although a gate refuses it",
    Permission.CHANGE_POLICIES: "say what every agent, or one deployment, may do without asking, or not at all",
    Permission.CHANGE_TRIGGERS: "make, change and remove triggers",
    Permission.SEND_EVENTS: "send events that triggers fire on",
    Permission.CHANGE_SUBSCRIPTIONS: "say which outside systems are told of which facts",
    Permission.CHANGE_BUDGETS: "set caps on what agents may spend, and what models cost",
    Permission.GIVE_FEEDBACK: "say how good runs and drafts were, and settle recommendations",
    Permission.FREEZE_PROMOTION: "freeze promotions of an agent, a category or the organization",
    Permission.CHANGE_GATES: "add and remove quality gates, and lift freezes",
    Permission.TEST_MODELS: "ask a model one word, to see whether it answers",
    Permission.WRITE_INBOX: "write in the inbox, and send messages to people again",
    Permission.CHANGE_PRIVACY: "say which personal data is looked for and what becomes of it",
    Permission.SEE_PERSONAL_DATA: "see personal data in runs, journals, approvals and drafts; it is masked otherwise",
    Permission.READ_LEDGER: "search, export and verify the ledger, logins and refused attempts included",
    Permission.CHANGE_IDENTITY: "see and change people, their addresses and keys, and connect Slack",
    Permission.ORDER_STOPS: "stop and release deployments, agents and categories, and change the emergency denylist",
    Permission.STOP_ORGANIZATION: "stop and release the whole organization",
    Permission.STOP_EVERYTHING: "stop and release every organization, out of the platform's own",
}

# A person answers for these; no machine's key can have them.
PEOPLE_ONLY: Final = frozenset(
    {
        Permission.SETTLE_EFFECTS,
        Permission.ANSWER_APPROVALS,
        Permission.REROUTE_APPROVALS,
        Permission.CHANGE_ROUTING,
        Permission.CHANGE_IDENTITY,
        Permission.OVERRIDE_GATES,
        Permission.STOP_EVERYTHING,
    }
)


class Role(StrEnum):
    """What a person is here for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    INCIDENT_COMMANDER = "incident_commander"
    ADMIN = "admin"

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the role allows."""
        return ROLES[self]


_OPERATES: Final = frozenset(
    {
        Permission.READ,
        Permission.START_RUNS,
        Permission.ASK_MODELS,
        Permission.ORDER_RUNS,
        Permission.REPLAY_RUNS,
        Permission.RUN_EVALS,
        Permission.SETTLE_EFFECTS,
        Permission.SUBMIT_DRAFTS,
        Permission.APPLY_AGENTS,
        Permission.CHANGE_DEPLOYMENTS,
        Permission.CHANGE_TRIGGERS,
        Permission.SEND_EVENTS,
        Permission.CHANGE_SUBSCRIPTIONS,
        Permission.TEST_MODELS,
        Permission.GIVE_FEEDBACK,
        Permission.FREEZE_PROMOTION,
        Permission.WRITE_INBOX,
        Permission.SEE_PERSONAL_DATA,
        Permission.ORDER_STOPS,
    }
)
_COMMANDS: Final = frozenset(
    {
        Permission.ANSWER_APPROVALS,
        Permission.REROUTE_APPROVALS,
        Permission.CHANGE_POLICIES,
        Permission.OVERRIDE_GATES,
        Permission.CHANGE_GATES,
        Permission.READ_LEDGER,
        Permission.STOP_ORGANIZATION,
        Permission.STOP_EVERYTHING,
    }
)
# The one table of roles. An operator does not approve, and an approver does not operate: that takes two people. Whoever
# acts on personal data sees it; a viewer does not.
ROLES: Final[dict[Role, frozenset[Permission]]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.OPERATOR: _OPERATES,
    Role.APPROVER: frozenset(
        {
            Permission.READ,
            Permission.ANSWER_APPROVALS,
            Permission.WRITE_INBOX,
            Permission.SEE_PERSONAL_DATA,
            Permission.GIVE_FEEDBACK,
        }
    ),
    Role.INCIDENT_COMMANDER: _OPERATES - {Permission.APPLY_AGENTS} | _COMMANDS,
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or a machine of an organization, as shown by a key."""

    organization: OrgId
    person_id: PersonId | None  # None: a machine
    handle: str  # a person's handle, or "machine:" and its name
    key_id: KeyId
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class Person:
    """A person of an organization."""

    id: PersonId
    handle: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as everybody may see it: never its secret."""

    id: KeyId
    holder: str  # as Caller.handle
    person_id: PersonId | None
    scopes: tuple[Permission, ...] | None  # None: all that the person's role allows
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def closed(self, at: datetime) -> bool:
        """Whether the key opens nothing any more."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= at)


@dataclass(frozen=True, slots=True)
class OrganizationFounded(Fact):
    """There is an organization; the first of its facts."""

    key_field: ClassVar[str] = "organization"
    organization: str
    by: str


@dataclass(frozen=True, slots=True)
class PersonAdded(Fact):
    """A person joined the organization."""

    key_field: ClassVar[str] = "person_id"
    person_id: str
    handle: str
    role: str
    by: str


@dataclass(frozen=True, slots=True)
class PersonChanged(Fact):
    """A person's role changed, or they may no longer or again act."""

    key_field: ClassVar[str] = "person_id"
    person_id: str
    handle: str
    role: str
    enabled: bool
    by: str


@dataclass(frozen=True, slots=True)
class KeyCreated(Fact):
    """A key was made. ``replaces`` names the key that it follows in a rotation."""

    key_field: ClassVar[str] = "key_id"
    key_id: str
    holder: str
    scopes: list[str] | None
    replaces: str
    by: str


@dataclass(frozen=True, slots=True)
class KeyRevoked(Fact):
    """A key opens nothing any more."""

    key_field: ClassVar[str] = "key_id"
    key_id: str
    holder: str
    by: str


@dataclass(frozen=True, slots=True)
class SignedIn(Fact):
    """A person opened a session."""

    key_field: ClassVar[str] = "person_id"
    person_id: str
    session_id: str
    handle: str


@dataclass(frozen=True, slots=True)
class SignedOut(Fact):
    """A session of a person ended, or every one."""

    key_field: ClassVar[str] = "person_id"
    person_id: str
    session_id: str
    by: str


@dataclass(frozen=True, slots=True)
class SecretRead(Fact):
    """The platform used a secret of the organization's, by its name, for one of its webhooks, deliveries or messages.

    What runs are given is told with their steps. For the ledger: nobody is told of it outside.
    """

    key_field: ClassVar[str] = "secret"
    secret: str  # by reference: secret://name
    about: str  # the id of what it was used for: a trigger, subscription, workspace or notification


@dataclass(frozen=True, slots=True)
class AccessRefused(Fact):
    """Somebody was refused: ``count`` times within a minute, for one reason, from one address.

    ``key_id`` and ``holder`` are empty where nobody knows whose key it was.
    """

    key_field: ClassVar[str] = "address"
    reason: str
    address: str
    key_id: str
    holder: str
    route: str
    count: int
