"""Which models a process can ask, and which policies it accepts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentos.adapters.llm import MOST_VENDORS, ModelPolicyInvalid, Providers, vendors
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.llm.stub import BadStubPolicy
from agentos.adapters.secrets.environment import environment_secret
from agentos.runtime.inference.model import ModelMisbehaved, ModelNotConfigured
from agentos.runtime.inference.ports import Listed
from tests.adapters.llm.endpoints import question


def providers(**chat: Any) -> Providers:
    return Providers(ClaudeSettings.read(api_key=""), OpenAISettings.read(**chat), environment_secret)


def test_every_provider_is_listed_with_what_it_lacks() -> None:
    listed = providers(endpoints="local=http://127.0.0.1:9/v1", local="local", api_key="").listing()
    assert listed == [
        Listed("stub", instant=True, local=True, configured=True),
        Listed("claude", False, False, False, "Set ANTHROPIC_API_KEY for API and workers."),
        Listed("local", False, local=True, configured=True),
        Listed("openai", False, False, False, "Set OPENAI_API_KEY for API and workers."),
        Listed("vendor:*", False, False, configured=True),
    ]


def test_a_provider_that_lacks_its_key_is_not_configured() -> None:
    for provider in ("claude", "openai"):
        with pytest.raises(ModelNotConfigured, match="is not configured"):
            providers(api_key="").for_policy({"provider": provider, "name": "x"})


def test_a_provider_is_found_by_its_name() -> None:
    held = providers(endpoints="local=http://127.0.0.1:9/v1", local="local")
    assert held.for_policy({"provider": "stub"}).provider == "stub"
    assert held.for_policy({"provider": "local", "name": "x"}).local
    groq = held.for_policy({"provider": "vendor:groq", "name": "x"})
    assert groq is held.for_policy({"provider": "vendor:groq", "name": "y"})


@pytest.mark.parametrize(
    "policy",
    [
        {"provider": "stub", "script": [{"text": "Hi"}]},
        {"provider": "claude", "name": "claude-x", "max_tokens": 10},
        {"provider": "openai", "name": "gpt-x"},
        {"provider": "local", "name": "llama"},
        {"provider": "vendor:google-vertex", "name": "gemini-x"},
    ],
)
def test_a_policy_of_any_provider_that_there_is_is_accepted(policy: dict[str, Any]) -> None:
    providers(endpoints="local=http://127.0.0.1:9/v1").check(policy)


@pytest.mark.parametrize(
    ("policy", "where"),
    [
        ({}, "provider"),
        ({"provider": "nobody"}, "provider"),
        ({"provider": 7}, "provider"),
        ({"provider": ["claude"]}, "provider"),
        ({"provider": "vendor:"}, "provider"),
        ({"provider": "vendor:../x", "name": "x"}, "provider"),
        ({"provider": "vendor:groq"}, "name"),
        ({"provider": "vendor:groq", "name": "x", "settings": 7}, "settings"),
        ({"provider": "claude", "name": "x", "max_tokens": 0}, "max_tokens"),
        ({"provider": "openai", "name": "x" * 201}, "name"),
        ({"provider": "stub"}, ""),
    ],
)
def test_a_policy_that_no_process_could_serve_is_refused_at_its_place(policy: dict[str, Any], where: str) -> None:
    with pytest.raises((ModelPolicyInvalid, BadStubPolicy)) as caught:
        providers().check(policy)
    assert caught.value.where == where
    assert caught.value.then


async def test_without_the_extra_a_vendor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendors, "installed", lambda: False)
    held = providers()
    with pytest.raises(ModelNotConfigured, match=r"agentos\[vendors\]"):
        held.for_policy({"provider": "vendor:groq", "name": "x"})
    with pytest.raises(ModelNotConfigured, match=r"agentos\[vendors\]"):
        await vendors.Vendor("vendor:groq").ask(question())
    assert held.listing()[-1] == Listed("vendor:*", False, False, False, vendors.INSTALL)
    held.check({"provider": "vendor:groq", "name": "x"})  # whether it can be asked is not the policy's fault


async def test_closing_gives_back_every_provider() -> None:
    held = providers()
    held.for_policy({"provider": "vendor:groq", "name": "x"})
    await held.close()
    await held.close()


async def test_what_is_held_for_names_that_clients_choose_is_bounded() -> None:
    held = providers()
    first = held.for_policy({"provider": "vendor:v0", "name": "m"})
    assert held.for_policy({"provider": "vendor:v0", "name": "m"}) is first
    for number in range(2 * MOST_VENDORS):
        held.for_policy({"provider": f"vendor:v{number}", "name": "m"})
    assert held._vendor.cache_info().currsize == MOST_VENDORS
    assert not any(name.startswith("vendor:") for name in held._asked)
    await held.close()
    assert held._vendor.cache_info().currsize == 0


async def test_the_models_of_a_vendor_that_are_held_are_bounded() -> None:
    made: list[str] = []
    vendor = vendors.Vendor("vendor:any", lambda identity: made.append(identity))  # type: ignore[arg-type,return-value]
    for number in range(2 * vendors.MOST_MODELS):
        with pytest.raises(ModelMisbehaved):
            await vendor.ask(replace(question(), model=f"m{number}"))
    assert (len(made), vendor._found.cache_info().currsize) == (2 * vendors.MOST_MODELS, vendors.MOST_MODELS)


@pytest.mark.parametrize(
    ("provider", "ours"),
    [("vendor:openai", "openai"), ("vendor:openai-responses", "openai"), ("vendor:anthropic", "claude")],
)
def test_a_model_that_has_an_adapter_of_ours_is_not_named_as_a_vendors(provider: str, ours: str) -> None:
    held = providers()
    with pytest.raises(ModelPolicyInvalid) as refused:
        held.check({"provider": provider, "name": "x"})
    assert ours in refused.value.then
    with pytest.raises(ModelNotConfigured) as missing:  # of a version that was registered before
        held.for_policy({"provider": provider, "name": "x"})
    assert ours in missing.value.then
