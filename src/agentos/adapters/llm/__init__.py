"""Models by vendor: one file each. ``Providers`` is what a process hands to its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from agentos.adapters.llm import claude, openai, stub, vendors
from agentos.adapters.llm.claude import Claude
from agentos.adapters.llm.endpoint import Endpoint
from agentos.adapters.llm.policies import ModelPolicyInvalid, check_limit
from agentos.adapters.llm.settings import ClaudeSettings, OpenAISettings
from agentos.adapters.llm.stub import Stub
from agentos.adapters.llm.traced import traced
from agentos.adapters.llm.vendors import VENDOR, Vendor
from agentos.kernel.telemetry import Traces
from agentos.runtime.inference import Model, routing
from agentos.runtime.inference.model import ModelNotConfigured
from agentos.runtime.inference.ports import Listed

__all__ = ["ModelPolicyInvalid", "Providers"]

MOST_VENDORS: Final = 32  # that a process holds ready: clients name them


class Providers:
    """The models that this process can ask: the stub always, others when they have what they need."""

    def __init__(
        self,
        anthropic: ClaudeSettings,
        chat: OpenAISettings,
        secret: Callable[[str], str],
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces or Traces()
        reached: list[Endpoint] = [Claude(anthropic), *openai.endpoints(chat, secret)]
        self._endpoints = {one.provider: one for one in reached}
        self._stub = traced(Stub(), self._traces)
        self._vendor = lru_cache(MOST_VENDORS)(self._made)
        self._asked: dict[str, Model] = {name: traced(one, self._traces) for name, one in self._endpoints.items()}

    def for_policy(self, policy: Mapping[str, Any]) -> Model:
        """The model that a version's policy names. Raises ModelNotConfigured (Unavailable)."""
        provider = str(policy.get("provider"))
        if provider == self._stub.provider:
            return self._stub
        found = self._endpoints.get(provider)
        if found is not None and found.configured:
            return self._asked[provider]
        if provider.startswith(VENDOR) and self._own(provider) is None and vendors.installed():
            return self._vendor(provider)
        raise ModelNotConfigured(
            f"the model provider '{provider[:60]}' is not configured in this process", then=self._then(provider)
        )

    def check(self, policy: Mapping[str, Any]) -> None:
        """Refuse a model policy that no process could serve. Each model of it is checked by itself.

        Raises ModelPolicyInvalid, RoutingInvalid or BadStubPolicy (Invalid) with the place below the policy.
        """
        if routing.check(policy, self.check):
            return
        check_limit(policy)
        provider = policy.get("provider")
        if provider == self._stub.provider:
            stub.check_policy(policy)
        elif provider == "claude":
            claude.check_policy(policy)
        elif isinstance(provider, str) and provider in self._endpoints:
            openai.check_policy(policy)
        elif isinstance(provider, str) and provider.startswith(VENDOR):
            if (own := self._own(provider)) is not None:
                raise ModelPolicyInvalid(
                    f"the models of '{provider[:40]}' have an adapter here, with its own stops, limits and prices",
                    where="provider",
                    then=f"Write {own}.",
                )
            vendors.check_policy(policy)
        else:
            known = ", ".join([self._stub.provider, *self._endpoints])
            raise ModelPolicyInvalid(
                f"there is no model provider '{str(provider)[:40]}'",
                where="provider",
                then=f"Use {known} or {VENDOR}NAME; servers of your own are named in AGENTOS_OPENAI_ENDPOINTS.",
            )

    def listing(self) -> list[Listed]:
        """The providers by name, whether they can be asked or not. Vendors are one entry for all of them."""
        listed = [Listed(self._stub.provider, self._stub.instant, self._stub.local, configured=True)]
        for name, one in sorted(self._endpoints.items()):
            then = "" if one.configured else self._then(name)
            listed.append(Listed(name, one.instant, one.local, one.configured, then))
        there = vendors.installed()
        return [*listed, Listed(f"{VENDOR}*", False, False, there, "" if there else vendors.INSTALL)]

    async def close(self) -> None:
        """Give back connections."""
        for model in self._asked.values():
            await model.close()
        self._vendor.cache_clear()  # their connections are pydantic-ai's

    def _made(self, provider: str) -> Model:
        return traced(Vendor(provider), self._traces)

    def _own(self, provider: str) -> str | None:
        """The name of our own adapter for what is named as a vendor's models, if there is one.

        Under a second name a model would pass by the stops, limits and breakers of the first.
        """
        if not provider.startswith(VENDOR):
            return None
        vendor = provider.removeprefix(VENDOR).lower()
        return vendor if vendor in self._endpoints else vendors.OWN.get(vendor.partition("-")[0])

    def _then(self, provider: str) -> str:
        if (own := self._own(provider)) is not None:
            return f"Write {own}: its models have an adapter here."
        if provider.startswith(VENDOR):
            return vendors.INSTALL
        found = self._endpoints.get(provider)
        return "" if found is None else f"Set {found.key_from} for API and workers."
