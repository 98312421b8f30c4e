"""Rules in Cedar: read with positions, checked against the schema, and never failing open."""

from __future__ import annotations

import pytest

from agentos.control.policy import cedar
from agentos.control.policy.model import PolicyRefused, Verdict
from agentos.control.stops.model import Subject

SUBJECT = Subject("dep_1", "payer", "money")
CONTEXT = {
    "effect": 3,
    "tier": 4,
    "skill": "pay",
    "agent": "payer",
    "category": "money",
    "deployment": "dep_1",
    "hosts": ("api.example",),
    "submitted": False,
}


def say(text: str, **context: object) -> cedar.Said:
    rules = cedar.read(text)
    assert rules is not None
    return rules.say(SUBJECT, cedar.entities_of(SUBJECT), CONTEXT | context)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("forbid(principal, action, resource);", Verdict.DENY),
        ('forbid(principal == Agent::"payer", action, resource == Skill::"pay");', Verdict.DENY),
        ('forbid(principal in Category::"money", action, resource);', Verdict.DENY),
        ('forbid(principal in Category::"toys", action, resource);', None),
        ('forbid(principal, action, resource) when { context.hosts.contains("api.example") };', Verdict.DENY),
        ('forbid(principal, action, resource) when { context.skill like "pa*" && context.effect < 3 };', None),
        ('@verdict("ask") forbid(principal, action, resource);', Verdict.ASK),
        ('@verdict("ask_two") forbid(principal, action, resource);', Verdict.ASK_TWO),
        ('@verdict("draft") forbid(principal, action, resource);', Verdict.DRAFT),
    ],
)
def test_a_policy_that_forbids_gives_the_verdict_that_it_names(text: str, verdict: Verdict | None) -> None:
    assert say(text).verdict is verdict


@pytest.mark.parametrize(
    ("deployment", "hosts", "verdict"),
    [
        ("dep_1", ("api.example",), None),
        ("dep_1", ("api.example", "evil.example"), Verdict.DENY),
        ("dep_2", ("evil.example",), None),
    ],
)
def test_a_rule_says_which_hosts_one_deployment_may_ask(
    deployment: str, hosts: tuple[str, ...], verdict: Verdict | None
) -> None:
    rule = """forbid (principal, action, resource == Skill::"pay")
    when { context.deployment == "dep_1" && !["api.example"].containsAll(context.hosts) };"""
    assert say(rule, deployment=deployment, hosts=hosts).verdict is verdict


def test_the_strictest_policy_is_cited_by_its_name_or_its_place() -> None:
    text = """
    @id("ask-first") @verdict("ask") forbid(principal, action, resource);
    // a comment; with a semicolon, and "a quote
    forbid(principal, action, resource) when { context.skill == "a;b" || context.tier == 4 };
    """
    assert say(text) == cedar.Said(Verdict.DENY, ("cedar: policy 2, line 4",))
    assert say(text, tier=3) == cedar.Said(Verdict.ASK, ("cedar: ask-first",))


def test_a_permit_only_names_a_call_and_a_forbid_beats_it() -> None:
    permit = '@id("p") permit(principal, action, resource == Skill::"pay");'
    assert say(permit) == cedar.Said(permitted=("p",))
    assert say(permit + '@verdict("ask") forbid(principal, action, resource);').verdict is Verdict.ASK


def test_a_policy_that_cannot_be_evaluated_denies() -> None:
    said = say("forbid(principal, action, resource) when { context.effect + 9223372036854775807 > 0 };")
    assert said.failed
    assert said.verdict is Verdict.DENY
    assert "overflow" in said.reasons[0]


def test_a_call_that_cannot_be_put_is_denied() -> None:
    said = say('forbid(principal, action, resource == Skill::"x");', hosts=("\ud800",))
    assert (said.failed, said.verdict) == (True, Verdict.DENY)


def test_a_text_without_policies_says_nothing() -> None:
    assert cedar.read("") is None
    assert cedar.read("// later\n") is None


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("permit(principal action, resource);", "cedar:1:18", "unexpected token `action`"),
        ("forbid(principal, action, resource);\nforbid(principl, action, resource);", "cedar:2:8", "principl"),
        ("forbid(principal, action, resource);\nforbid(principal, action, resource)", "cedar:2:35", "end of input"),
        ('forbid(principal, action, resource) when { "abc };', "cedar:1:44", "no end"),
        (
            "forbid(principal, action, resource)\n  when { context.tieer > 3 };",
            "cedar:2:18",
            "attribute `tieer`",
        ),
        ('forbid(principal == User::"x", action, resource);', "cedar:1:21", "`User`"),
        ("forbid(principal == ?principal, action, resource);", "cedar:1:1", "template"),
        ('@verdict("maybe") forbid(principal, action, resource);', "cedar:1:1", "maybe"),
        ('@verdict("allow") forbid(principal, action, resource);', "cedar:1:1", "allow"),
        ('@verdict("ask") permit(principal, action, resource == Skill::"x");', "cedar:1:1", "no verdict"),
        ("permit(principal, action, resource);", "cedar:1:1", "names its skill"),
        ('@id("a") forbid(principal, action, resource);\n' * 2, "cedar:2:1", "two policies are called 'a'"),
        ("forbid(principal, action, resource);\x00", "cedar:1:37", "U+0000"),
        ("forbid(principal, action, resource) when {" + "(" * 20000 + "true" + ")" * 20000 + "};", "cedar:1:74", "32"),
        ("forbid(principal, action, resource) when { true" + "&& true" * 2000 + "};", "cedar", "1000"),
        ("forbid(principal, action, resource);" * 501, "cedar", "500 policies"),
        ("//" + "x" * cedar.MOST_TEXT, "cedar:1:1", "65536"),
    ],
)
def test_a_broken_policy_is_refused_with_its_place_and_reason(text: str, where: str, what: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        cedar.read(text)
    assert refused.value.where.startswith(where)
    assert what in refused.value.what
    assert refused.value.extra["problems"][0]["where"] == refused.value.where


def test_every_fault_against_the_schema_is_told() -> None:
    with pytest.raises(PolicyRefused) as refused:
        cedar.read(
            "forbid(principal, action, resource) when { context.x };\n"
            "forbid(principal, action, resource)\n when { context.y };"
        )
    assert [one["where"] for one in refused.value.extra["problems"]] == ["cedar:1:52", "cedar:3:17"]
