"""A worker hands on every fact that any part of the platform publishes."""

from __future__ import annotations

from agentos.apps import reference
from agentos.apps.facts import every_fact
from agentos.kernel.facts import Fact


def test_every_fact_of_the_platform_can_be_subscribed_to() -> None:
    reference.load()
    ours = {name for name, kind in Fact.kinds.items() if kind.__module__.startswith("agentos.")}
    assert {kind.__name__ for kind in every_fact()} == ours
    assert len(ours) > 20
