"""Settings of the router."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section
from agentos.runtime.inference.plans import Switches


class RouterSettings(Section):
    """How models are asked: switches for emergencies, and limits."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_ROUTER_", frozen=True, extra="ignore", populate_by_name=True)

    fallback_mode: bool = Field(
        False,
        alias="FALLBACK_MODE",
        description="Ask fallback models only: a version's own model is left out where its policy names others.",
    )
    api_timeout: int = Field(
        120_000,
        ge=1,
        le=3_600_000,
        alias="API_TIMEOUT",
        description="How long one call to a model may take, in milliseconds.",
    )
    disable_live_adapters: bool = Field(
        False,
        alias="DISABLE_LIVE_ADAPTERS",
        description="Ask no live model: calls end Unavailable, and runs wait until this is unset.",
    )
    force_stub_adapter: bool = Field(
        False,
        alias="FORCE_STUB_ADAPTER",
        description="Let the stub answer every call. Agents whose model it replaces act at L1: effects become drafts.",
    )
    claude_rpm: int = Field(
        0,
        ge=0,
        alias="CLAUDE_RATE_LIMIT_RPM",
        description="Most requests to claude in any 60 s, of all processes together. 0: no limit.",
    )
    claude_tpm: int = Field(
        0,
        ge=0,
        alias="CLAUDE_RATE_LIMIT_TPM",
        description="Most tokens to and from claude in any 60 s, of all processes together. 0: no limit.",
    )
    rate_limits: str = Field(
        "",
        pattern=r"^\s*([a-z0-9_.-]+=[0-9]+/[0-9]+\s*(,\s*|$))*$",
        description="The same for other providers, as 'openai=500/200000': requests / tokens in 60 s, 0 for no limit.",
    )
    concurrency: int = Field(
        200, ge=1, le=10_000, description="Calls to one provider that a process has under way at once; more wait."
    )
    breaker_failures: int = Field(
        5, ge=1, le=1000, description="Failures of a model in a row, with no answer between, that open its breaker."
    )
    breaker_seconds: float = Field(
        1.0, gt=0, le=300, description="How long a breaker is open before the model is probed; doubled while it fails."
    )
    breaker_most_seconds: float = Field(
        2.5,  # with the probe's own 2 s a model is asked again within 5 s of its recovery
        gt=0,
        le=600,
        description="Longest time between two probes of a model whose breaker is open.",
    )
    probe_seconds: float = Field(
        2.0, gt=0, le=60, description="How long a probe may take: a question of one word, for an answer of one token."
    )
    rest_most_seconds: float = Field(
        60.0, ge=0, le=3600, description="Longest time that a provider's retry-after keeps its model from being asked."
    )

    @property
    def switches(self) -> Switches:
        """What these settings say of every plan."""
        return Switches(self.fallback_mode, self.disable_live_adapters, self.force_stub_adapter)

    def limit_of(self, provider: str) -> tuple[int, int]:
        """Most requests and tokens of a provider in any 60 s; 0 where there is no limit."""
        if provider == "claude" and (self.claude_rpm or self.claude_tpm):
            return self.claude_rpm, self.claude_tpm
        for part in self.rate_limits.split(","):
            name, _, numbers = part.strip().partition("=")
            if name == provider:
                requests, _, tokens = numbers.partition("/")
                return int(requests), int(tokens)
        return 0, 0
