"""The tier matrix cell by cell, and the table of rules around it: precedence, citing, and what loosens nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.control.policy.model import (
    MATRIX,
    DeploymentPolicy,
    EffectClass,
    OrganizationPolicy,
    Tier,
    Verdict,
)
from agentos.control.policy.rules import DECIDED, RULES, Proposed, Rulebook, answers, decide
from agentos.control.stops.model import InForce, Stop, StopKind, StopScope, Subject

DESIGN = """
L0 allow deny  deny  deny  deny
L1 allow draft draft draft draft
L2 allow allow ask   ask   ask_two
L3 allow allow allow ask   ask_two
L4 allow allow allow ask   ask_two
"""
CELLS = [
    (Tier[row.split()[0]], EffectClass(column), Verdict(cell))
    for row in DESIGN.strip().splitlines()
    for column, cell in enumerate(row.split()[1:])
]
SUBJECT = Subject("dep_1", "payer", "money")
PLAIN = Rulebook(SUBJECT)
PAY = Proposed("pay", EffectClass.S3, True, Tier.L4)

RULES_IN_ORDER = [
    "skill_unregistered",
    "skill_disabled",
    "stopped",
    "denylisted",
    "organization_denies",
    "deployment_denies",
    "skill_not_allowed",
    "tier_matrix",
    "approval_required",
    "organization_rules",
]


def stop(kind: StopKind, scope: StopScope = StopScope.ORGANIZATION, target: str = "") -> Stop:
    return Stop("stop_1", "acme", kind, scope, target, "why", "ann", datetime(2026, 1, 1, tzinfo=UTC))


def stopped(kind: StopKind, scope: StopScope = StopScope.ORGANIZATION, target: str = "") -> Rulebook:
    return Rulebook(SUBJECT, InForce.about(SUBJECT, [stop(kind, scope, target)]))


skills = st.sampled_from(["pay", "pay_out", "look", "wipe"])
globs = st.lists(st.sampled_from(["pay", "pay*", "*", "lo?k", "[w-z]*", "other"]), max_size=3).map(tuple)
stops = st.lists(
    st.builds(stop, st.sampled_from(StopKind), st.sampled_from([StopScope.ORGANIZATION, StopScope.GLOBAL]))
    | st.builds(stop, st.just(StopKind.DENY), st.just(StopScope.SKILL), st.sampled_from(["pay*", "look"]))
    | st.builds(stop, st.just(StopKind.DENY), st.just(StopScope.DOMAIN), st.sampled_from(["evil.example"])),
    max_size=2,
)
CEDAR = [
    "",
    'permit(principal, action, resource == Skill::"pay");',
    'permit(principal, action, resource == Skill::"wipe");',
    "forbid(principal, action, resource) when { context.effect >= 3 };",
    '@verdict("ask") forbid(principal, action, resource == Skill::"look");',
    '@verdict("draft") forbid(principal in Category::"money", action, resource);',
]
organizations = st.builds(
    OrganizationPolicy,
    deny=globs,
    disabled=st.lists(skills, max_size=2).map(tuple),
    ask=globs,
    trusted=st.lists(skills, max_size=2).map(tuple),
    cedar=st.sampled_from(CEDAR),
)
deployments = st.builds(DeploymentPolicy, deny=globs, allow=st.none() | globs, ask=globs)
books = st.builds(
    lambda found, organization, deployment: Rulebook(SUBJECT, InForce.about(SUBJECT, found), organization, deployment),
    stops,
    organizations,
    deployments,
)
proposals = st.builds(
    Proposed,
    skill=skills,
    effect=st.sampled_from(EffectClass),
    pinned=st.booleans(),
    tier=st.sampled_from(Tier),
    submitted=st.booleans(),
    registered=st.booleans(),
    hosts=st.lists(st.sampled_from(["api.evil.example", "good.example"]), max_size=2).map(tuple),
)


@pytest.mark.parametrize(("tier", "effect", "verdict"), CELLS, ids=[f"{a.name}-{b.name}-{c}" for a, b, c in CELLS])
def test_the_matrix_is_the_designs(tier: Tier, effect: EffectClass, verdict: Verdict) -> None:
    decision = decide(Proposed("s", effect, True, tier), PLAIN)
    assert decision.verdict is verdict
    assert decision.code == "tier_matrix"
    assert decision.reasons == (f"{tier.name} × {effect.name}",)
    assert decision.approvers == {"ask": 1, "ask_two": 2}.get(verdict, 0)
    assert decision.policy_hash == PLAIN.hash


def test_the_table_has_the_order_of_the_design() -> None:
    assert [rule.code for rule in RULES] == RULES_IN_ORDER


@pytest.mark.parametrize(
    ("code", "call", "book", "reason"),
    [
        ("skill_unregistered", Proposed("x", EffectClass.S0, True, Tier.L4, registered=False), PLAIN, None),
        ("skill_disabled", PAY, Rulebook(SUBJECT, organization=OrganizationPolicy(disabled=("pay",))), None),
        ("stopped", PAY, stopped(StopKind.KILL), "stop stop_1: kill switch, organization"),
        ("stopped", PAY, stopped(StopKind.PAUSE, StopScope.CATEGORY, "money"), "stop stop_1: pause, category money"),
        ("denylisted", PAY, stopped(StopKind.DENY, StopScope.SKILL, "p*"), "stop stop_1: denylist, skill p*"),
        (
            "denylisted",
            Proposed("pay", EffectClass.S0, True, Tier.L4, hosts=("api.evil.example",)),
            stopped(StopKind.DENY, StopScope.DOMAIN, "evil.example"),
            "stop stop_1: denylist, domain evil.example",
        ),
        ("organization_denies", PAY, Rulebook(SUBJECT, organization=OrganizationPolicy(deny=("p*",))), "glob: p*"),
        ("deployment_denies", PAY, Rulebook(SUBJECT, deployment=DeploymentPolicy(deny=("p*",))), "glob: p*"),
        ("skill_not_allowed", Proposed("pay", EffectClass.S0, False, Tier.L4), PLAIN, "the version does not name it"),
        (
            "skill_not_allowed",
            PAY,
            Rulebook(SUBJECT, deployment=DeploymentPolicy(allow=("look",))),
            "the deployment's allow list does not name it",
        ),
        ("tier_matrix", Proposed("pay", EffectClass.S1, True, Tier.L0), PLAIN, "L0 × S1"),
        (
            "organization_rules",
            PAY,
            Rulebook(SUBJECT, organization=OrganizationPolicy(cedar='@id("no") forbid(principal, action, resource);')),
            "cedar: no",
        ),
    ],
)
def test_each_rule_denies_what_it_is_about_and_says_by_what(
    code: str, call: Proposed, book: Rulebook, reason: str | None
) -> None:
    decision = decide(call, book)
    assert decision.verdict is Verdict.DENY
    assert decision.code == code
    assert decision.reasons == ((reason,) if reason else ())


@pytest.mark.parametrize(
    "book",
    [
        Rulebook(SUBJECT, organization=OrganizationPolicy(ask=("lo*",))),
        Rulebook(SUBJECT, deployment=DeploymentPolicy(ask=("lo*",))),
    ],
)
def test_a_skill_that_takes_an_approval_asks_even_where_the_tier_would_let_it(book: Rulebook) -> None:
    decision = decide(Proposed("look", EffectClass.S1, True, Tier.L4), book)
    assert (decision.verdict, decision.code) == (Verdict.ASK, "approval_required")
    assert decision.reasons == ("glob: lo*",)
    assert book.asks_of_reads


@given(proposals, books)
def test_the_most_restrictive_answer_wins_and_the_first_rule_that_gave_it_is_cited(
    call: Proposed, book: Rulebook
) -> None:
    given = [(rule, answer) for rule, answer in answers(call, book) if answer is not None]
    order = ["deny", "draft", "ask_two", "ask", "allow"]
    strictest = min(order.index(answer.verdict) for _, answer in given)
    first = next((rule, answer) for rule, answer in given if order.index(answer.verdict) == strictest)
    decision = decide(call, book)
    assert decision.verdict.value == order[strictest]
    assert (decision.code, decision.reasons) == (first[0].code, first[1].reasons)


@given(proposals, books)
def test_nothing_that_people_write_allows_more_than_the_matrix_but_s3_at_l4(call: Proposed, book: Rulebook) -> None:
    decision = decide(call, book)
    cell = MATRIX[call.tier][call.effect]
    if (call.tier, call.effect) == (Tier.L4, EffectClass.S3):
        cell = Verdict.ALLOW
    if not call.submitted:  # a person who submits a draft turns it into a question
        assert decision.verdict.rank <= cell.rank


@given(proposals, books)
def test_no_policy_loosens_s4(call: Proposed, book: Rulebook) -> None:
    s4 = Proposed(call.skill, EffectClass.S4, call.pinned, call.tier, call.submitted, call.registered, call.hosts)
    assert decide(s4, book).verdict.rank <= Verdict.ASK_TWO.rank


@given(proposals, books)
def test_an_allowed_effect_is_stopped_by_nothing(call: Proposed, book: Rulebook) -> None:
    if decide(call, book).verdict is Verdict.ALLOW and call.effect > EffectClass.S0:
        assert call.pinned
        assert call.registered
        assert book.stops.held is None
        assert book.stops.degraded is None


@given(proposals.filter(lambda one: one.tier > Tier.L0), books)
def test_a_lower_tier_is_never_less_restrictive(call: Proposed, book: Rulebook) -> None:
    lower = Proposed(
        call.skill, call.effect, call.pinned, Tier(call.tier - 1), call.submitted, call.registered, call.hosts
    )
    assert decide(lower, book).verdict.rank <= decide(call, book).verdict.rank


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (OrganizationPolicy(trusted=("pay",)), "trusted: pay"),
        (OrganizationPolicy(cedar='@id("ok") permit(principal, action, resource == Skill::"pay");'), "cedar: ok"),
    ],
)
def test_s3_at_l4_is_allowed_only_where_a_policy_names_the_skill(policy: OrganizationPolicy, reason: str) -> None:
    book = Rulebook(SUBJECT, organization=policy)
    decision = decide(PAY, book)
    assert decision.verdict is Verdict.ALLOW
    assert reason in decision.reasons
    assert decide(Proposed("other", EffectClass.S3, True, Tier.L4), book).verdict is Verdict.ASK
    assert decide(Proposed("pay", EffectClass.S3, True, Tier.L3), book).verdict is Verdict.ASK
    assert decide(Proposed("pay", EffectClass.S4, True, Tier.L4), book).verdict is Verdict.ASK_TWO


def test_a_degraded_deployment_acts_as_l1_at_most_and_the_stop_is_cited() -> None:
    book = stopped(StopKind.DEGRADE)
    decision = decide(Proposed("note", EffectClass.S1, True, Tier.L4), book)
    assert decision.verdict is Verdict.DRAFT
    assert decision.reasons == ("L1 × S1", "stop stop_1: degraded mode, organization")
    assert decide(Proposed("note", EffectClass.S1, True, Tier.L0), book).verdict is Verdict.DENY
    assert decide(Proposed("look", EffectClass.S0, True, Tier.L4), book).verdict is Verdict.ALLOW


@pytest.mark.parametrize("kind", [StopKind.KILL, StopKind.PAUSE])
def test_a_held_deployment_may_still_read(kind: StopKind) -> None:
    assert decide(Proposed("look", EffectClass.S0, True, Tier.L4), stopped(kind)).verdict is Verdict.ALLOW


@given(st.sampled_from(Tier), st.sampled_from([e for e in EffectClass if e is not EffectClass.S0]))
def test_a_submitted_draft_executes_under_approval_or_not_at_all(tier: Tier, effect: EffectClass) -> None:
    decision = decide(Proposed("s", effect, True, tier, submitted=True), PLAIN)
    assert decision.verdict in (Verdict.ASK, Verdict.ASK_TWO, Verdict.DENY)
    if effect is EffectClass.S4 and tier > Tier.L0:
        assert decision.verdict is Verdict.ASK_TWO


@given(st.sampled_from([tier for tier in Tier if tier > Tier.L0]), st.sampled_from([e for e in EffectClass if e > 0]))
def test_in_degraded_mode_a_submitted_draft_stays_a_draft(tier: Tier, effect: EffectClass) -> None:
    call = Proposed("s", effect, True, tier, submitted=True)
    assert decide(call, stopped(StopKind.DEGRADE)).verdict is Verdict.DRAFT


def test_the_hash_covers_stops_and_both_policies() -> None:
    books = [
        PLAIN,
        stopped(StopKind.KILL),
        Rulebook(SUBJECT, organization=OrganizationPolicy(deny=("x",))),
        Rulebook(SUBJECT, deployment=DeploymentPolicy(deny=("x",))),
        Rulebook(SUBJECT, deployment=DeploymentPolicy(allow=())),
    ]
    assert len({book.hash for book in books}) == len(books)
    assert Rulebook(SUBJECT).hash == PLAIN.hash


def test_a_cedar_text_that_no_longer_reads_denies_everything_and_says_so() -> None:
    book = Rulebook(SUBJECT, organization=OrganizationPolicy(cedar="permit(principal"))
    decision = decide(Proposed("look", EffectClass.S0, True, Tier.L4), book)
    assert (decision.verdict, decision.code) == (Verdict.DENY, "organization_rules")
    assert "cannot be read" in decision.reasons[0]


def test_a_call_is_decided_once_under_a_rulebook_and_anew_under_the_next() -> None:
    book, note = Rulebook(SUBJECT), Proposed("note", EffectClass.S1, True, Tier.L2)
    first = decide(note, book)
    assert first.verdict is Verdict.ALLOW
    assert decide(Proposed("note", EffectClass.S1, True, Tier.L2), book) is first
    assert decide(Proposed("note", EffectClass.S1, True, Tier.L0), book).verdict is Verdict.DENY
    assert decide(note, stopped(StopKind.KILL)).verdict is Verdict.DENY


def test_what_there_is_no_end_of_is_not_kept() -> None:
    book = Rulebook(SUBJECT)
    for number in range(3):
        decide(Proposed("pay", EffectClass.S3, True, Tier.L4, hosts=(f"h{number}.test",)), book)
        decide(Proposed(f"made_up_{number}", EffectClass.S4, False, Tier.L4), book)
    assert not book.decided
    for number in range(2 * DECIDED):
        decide(Proposed(f"skill_{number}", EffectClass.S0, True, Tier.L4), book)
    assert len(book.decided) == DECIDED
