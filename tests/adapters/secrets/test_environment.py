"""Secrets from the environment."""

from __future__ import annotations

import pytest

from agentos.adapters.secrets.environment import SecretMissing, environment_secret


def test_a_secret_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOS_SECRET_BILLING_HOOK", "one")
    assert environment_secret("billing-hook") == "one"
    monkeypatch.setenv("AGENTOS_SECRET_BILLING_HOOK", "two")
    assert environment_secret("BILLING_HOOK") == "two"


@pytest.mark.parametrize("name", ["other", "", "a b", "x" * 500])
def test_a_missing_secret_says_what_to_set(name: str) -> None:
    with pytest.raises(SecretMissing, match=r"Set AGENTOS_SECRET_[A-Z_]* for the workers"):
        environment_secret(name)
