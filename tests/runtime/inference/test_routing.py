"""A model policy read into a plan: which models, in which order, and the reason of each that is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from agentos.adapters.llm import Providers
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.secrets.environment import environment_secret
from agentos.kernel.errors import Invalid
from agentos.runtime.inference.plans import Circumstances, Plan, Switches, plan
from agentos.runtime.inference.routing import RoutingInvalid, check, read

OWN = {"provider": "claude", "name": "large"}


@dataclass(frozen=True)
class PerToken:
    """A price of so many millionths for every token."""

    micros: int

    def most(self, input_tokens: int, output_tokens: int) -> int:
        return self.micros * (input_tokens + output_tokens)


PRICES = {("claude", "large"): PerToken(10), ("openai", "small"): PerToken(1), ("openai", "huge"): PerToken(50)}
SMALL, HUGE = {"provider": "openai", "name": "small"}, {"provider": "openai", "name": "huge"}


def made(policy: dict[str, Any], switches: Switches | None = None, local: tuple[str, ...] = (), **here: Any) -> Plan:
    circumstances = Circumstances(**{"prices": PRICES, **here})
    return plan(read(policy), circumstances, switches or Switches(), local=lambda one: one.provider in local)


def order(found: Plan) -> list[str]:
    return [one.name or one.provider for one in found.candidates]


def skipped(found: Plan) -> dict[str, str]:
    return {one.name or one.provider: one.why for one in found.skipped}


def test_a_plain_policy_is_its_one_model_as_written() -> None:
    policy = OWN | {"max_tokens": 5, "thinking": "model_default"}
    found = made(policy)
    assert order(found) == ["large"]
    assert found.candidates[0].policy is policy


def test_manual_is_the_own_model_and_then_its_fallback_in_order() -> None:
    found = made(OWN | {"fallback": [SMALL, {"provider": "stub", "script": []}], "routing": {"costlier": "allowed"}})
    assert order(found) == ["large", "small", "stub"]
    assert [one.why for one in found.candidates] == ["the version's own model", "fallback 1", "fallback 2"]


def test_a_costlier_model_is_left_out_unless_the_policy_allows_it() -> None:
    policy = OWN | {"fallback": [HUGE, SMALL]}
    assert order(made(policy)) == ["large", "small"]
    assert skipped(made(policy))["huge"] == "it costs more than claude/large, and the policy allows no costlier model"
    assert order(made(policy | {"routing": {"costlier": "allowed"}})) == ["large", "huge", "small"]


def test_a_costlier_model_may_cost_up_to_the_ceiling_for_this_question() -> None:
    policy = OWN | {"max_tokens": 1000, "fallback": [HUGE], "routing": {"costlier": "0.10"}}
    assert order(made(policy, tokens=lambda: 1000)) == ["large", "huge"]
    assert order(made(policy, tokens=lambda: 1001)) == ["large"]


def test_a_model_that_nobody_has_a_price_of_counts_as_costlier() -> None:
    found = made(OWN | {"fallback": [{"provider": "openai", "name": "new"}]})
    assert skipped(found) == {"new": "nobody knows what it costs, and the policy allows no costlier model"}


def test_cost_asks_the_cheapest_first_and_none_that_is_dearer_than_the_own_model() -> None:
    found = made(OWN | {"mode": "cost", "max_tokens": 10, "fallback": [HUGE, SMALL]}, tokens=lambda: 90)
    assert order(found) == ["small", "large"]
    assert found.candidates[0].why == "costs at most 0.0001 dollars for this question"
    assert "huge" in skipped(found)


@pytest.mark.parametrize(
    ("when", "here", "matches"),
    [
        ({"agent": "bookkeeper"}, {"agent": "bookkeeper"}, True),
        ({"agent": ["a", "b"]}, {"agent": "c"}, False),
        ({"category": "finance"}, {"category": "finance"}, True),
        ({"task": ["summarise", "translate"]}, {"task": "translate"}, True),
        ({"task": "translate"}, {}, False),
        ({"tools": True}, {"tools": ("read_file",)}, True),
        ({"tools": False}, {"tools": ("read_file",)}, False),
        ({"tools": "read_file"}, {"tools": ("git_log", "read_file")}, True),
        ({"private": True}, {"private": True}, True),
        ({"private": True}, {}, False),
        ({"longer_than": 100}, {"tokens": lambda: 101}, True),
        ({"longer_than": 100}, {"tokens": lambda: 100}, False),
        ({"category": "finance", "tools": True}, {"category": "finance"}, False),
        ({}, {}, True),
    ],
)
def test_a_rule_matches_when_each_of_its_conditions_holds(when: Any, here: Any, matches: bool) -> None:
    policy = OWN | {"mode": "rules", "routing": {"rules": [{"when": when, "use": SMALL}]}}
    found = made(policy, **here)
    assert order(found) == (["small"] if matches else ["large"])
    assert found.candidates[0].why == ("rule 1 matches" if matches else "no rule matches")


def test_the_first_rule_that_matches_decides_with_its_own_fallback() -> None:
    rules = [
        {"when": {"task": "draft"}, "use": SMALL, "fallback": [OWN]},
        {"when": {}, "use": HUGE},
    ]
    policy = OWN | {"mode": "rules", "routing": {"rules": rules, "costlier": "allowed"}}
    assert order(made(policy, task="draft")) == ["small", "large"]
    assert order(made(policy)) == ["huge"]


def test_what_is_private_never_leaves_to_a_model_that_is_not_local() -> None:
    local = {"provider": "vllm", "name": "own"}
    rules = [{"when": {"private": True}, "local_only": True}]
    policy = OWN | {"mode": "rules", "fallback": [local], "routing": {"rules": rules, "costlier": "allowed"}}
    assert order(made(policy, local=("vllm",), private=True)) == ["own"]
    assert order(made(policy, local=("vllm",))) == ["large", "own"]
    always = OWN | {"fallback": [SMALL], "routing": {"local_only": True}}
    assert made(always).candidates == ()
    assert skipped(made(always))["large"] == "its models are not local"


def test_fallback_mode_leaves_out_the_own_model_where_there_is_another() -> None:
    switch = Switches(fallback_only=True)
    assert order(made(OWN | {"fallback": [SMALL]}, switch)) == ["small"]
    assert order(made(OWN | {"mode": "cost", "fallback": [SMALL]}, switch)) == ["small"]
    assert order(made(OWN, switch)) == ["large"]
    assert order(made(OWN | {"fallback": [HUGE]}, switch)) == ["large"]


def test_with_live_adapters_disabled_no_live_model_is_a_candidate() -> None:
    switch = Switches(live_disabled=True)
    assert made(OWN | {"fallback": [SMALL]}, switch).candidates == ()
    assert skipped(made(OWN, switch)) == {"large": "DISABLE_LIVE_ADAPTERS: no live model is asked"}
    found = made(OWN | {"fallback": [{"provider": "stub", "script": []}], "routing": {"costlier": "allowed"}}, switch)
    assert [one.stands_in for one in found.candidates] == [True]
    assert made({"provider": "stub", "script": []}, switch).candidates[0].stands_in is False


def test_a_forced_stub_stands_in_for_every_other_model_and_for_itself_stays_what_it_is() -> None:
    switch = Switches(stub_forced=True, live_disabled=True, fallback_only=True)
    found = made(OWN | {"fallback": [SMALL], "routing": {"stand_in": {"script": [{"text": "hello"}]}}}, switch)
    (only,) = found.candidates
    assert (only.provider, only.stands_in) == ("stub", True)
    assert only.policy == {"provider": "stub", "max_tokens": 4096, "script": [{"text": "hello"}]}
    assert set(skipped(found)) == {"large", "small"}
    assert made({"provider": "stub", "script": []}, switch).candidates[0].stands_in is False


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"fallbacks": []}, "fallbacks"),
        ({"local_only": True}, "local_only"),
        ({"mode": "cheapest"}, "mode"),
        ({"mode": "rules"}, "routing.rules"),
        ({"fallback": {"provider": "x"}}, "fallback"),
        ({"fallback": [{"name": "x"}]}, "fallback[0]"),
        ({"fallback": [SMALL | {"mode": "cost"}]}, "fallback[0].mode"),
        ({"fallback": [SMALL | {"context": 0}]}, "fallback[0].context"),
        ({"fallback": [SMALL] * 9}, "fallback"),
        ({"context": "long"}, "context"),
        ({"routing": []}, "routing"),
        ({"routing": {"retries": 3}}, "routing.retries"),
        ({"routing": {"local_only": "yes"}}, "routing.local_only"),
        ({"routing": {"costlier": "sometimes"}}, "routing.costlier"),
        ({"routing": {"costlier": 3}}, "routing.costlier"),
        ({"routing": {"on_blocked": "retry"}}, "routing.on_blocked"),
        ({"routing": {"deadline": "soon"}}, "routing.deadline"),
        ({"routing": {"deadline": "0s"}}, "routing.deadline"),
        ({"routing": {"task": 3}}, "routing.task"),
        ({"routing": {"stand_in": {"text": "x"}}}, "routing.stand_in"),
        ({"routing": {"rules": [{"when": {}, "use": SMALL}]}}, "mode"),
        ({"mode": "rules", "routing": {"rules": [{"when": {}}]}}, "routing.rules[0]"),
        ({"mode": "rules", "routing": {"rules": [{"if": {}, "use": SMALL}]}}, "routing.rules[0].if"),
        (
            {"mode": "rules", "routing": {"rules": [{"when": {"colour": "red"}, "use": SMALL}]}},
            "routing.rules[0].when.colour",
        ),
        (
            {"mode": "rules", "routing": {"rules": [{"when": {"longer_than": True}, "use": SMALL}]}},
            "routing.rules[0].when.longer_than",
        ),
        (
            {"mode": "rules", "routing": {"rules": [{"when": {"category": []}, "use": SMALL}]}},
            "routing.rules[0].when.category",
        ),
    ],
)
def test_a_routing_that_cannot_be_meant_is_refused_at_its_place(wrong: dict[str, Any], where: str) -> None:
    with pytest.raises(RoutingInvalid) as caught:
        check(OWN | wrong, lambda _plain: None)
    assert caught.value.where == where


PROVIDERS = Providers(ClaudeSettings.read(), OpenAISettings.read(), environment_secret)


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        (OWN | {"fallback": [OWN, {"provider": "nobody", "name": "x"}]}, "fallback[1].provider"),
        (
            OWN | {"mode": "rules", "routing": {"rules": [{"when": {}, "use": {"provider": "claude"}}]}},
            "routing.rules[0].use.name",
        ),
        (OWN | {"fallback": [OWN | {"max_tokens": 0}]}, "fallback[0].max_tokens"),
        ({"provider": "nobody", "fallback": [OWN]}, "provider"),
    ],
)
def test_each_model_of_a_policy_is_checked_at_its_place(policy: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        PROVIDERS.check(policy)
    assert caught.value.where == where


def test_a_policy_of_models_that_there_are_is_accepted() -> None:
    stub = {"provider": "stub", "script": [{"text": "hello"}]}
    routing = {"stand_in": {"script": [{"text": "hello"}]}, "deadline": "90s", "costlier": "0.5", "task": "draft"}
    PROVIDERS.check(OWN | {"fallback": [stub], "routing": routing})


STUBBED = {
    "provider": "stub",
    "script": ["hello"],
    "mode": "rules",
    "routing": {"rules": [{"when": {"task": "hard"}, "use": OWN}], "costlier": "allowed"},
}


def test_a_forced_stub_stands_in_for_a_rules_model_too_and_its_effects_are_drafts() -> None:
    switch = Switches(stub_forced=True)
    (one,) = made(STUBBED, switch, task="hard").candidates
    assert (one.provider, one.stands_in, one.policy["script"]) == ("stub", True, ["hello"])
    assert "claude/large" in one.why
    (one,) = made(STUBBED, switch, task="easy").candidates
    assert (one.provider, one.stands_in) == ("stub", False)
    assert switch.replace_model_of(STUBBED)
    assert not Switches().replace_model_of(STUBBED)


def test_with_live_adapters_disabled_a_stub_that_falls_in_for_a_rules_model_stands_in() -> None:
    switch, policy = Switches(live_disabled=True), STUBBED | {"fallback": [{"provider": "stub", "script": ["bye"]}]}
    (one,) = made(policy, switch, task="hard").candidates
    assert (one.stands_in, one.policy["script"]) == (True, ["bye"])


def test_a_stub_whose_fallback_alone_is_live_keeps_its_own_word_under_a_forced_stub() -> None:
    policy = {"provider": "stub", "script": ["hello"], "fallback": [OWN], "routing": {"costlier": "allowed"}}
    found = made(policy, Switches(stub_forced=True))
    assert [(one.provider, one.stands_in) for one in found.candidates] == [("stub", False)]
    assert skipped(found)["large"].startswith("FORCE_STUB_ADAPTER")
    assert not Switches(stub_forced=True).replace_model_of(policy)
