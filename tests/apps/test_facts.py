"""A worker hands on every fact that any part of the platform publishes."""

from __future__ import annotations

from agentos.apps import reference
from agentos.apps.facts import COVERED, FOR_THE_LEDGER, every_fact, told_outside
from agentos.kernel.facts import Fact


def test_every_fact_of_the_platform_can_be_subscribed_to() -> None:
    reference.load()
    ours = {name for name, kind in Fact.kinds.items() if kind.__module__.startswith("agentos.")}
    assert {kind.__name__ for kind in every_fact()} == ours
    assert set(told_outside()) == set(every_fact()) - set(FOR_THE_LEDGER)
    assert len(ours) > 20


def test_every_fact_is_told_for_something_that_the_ledger_covers() -> None:
    assert {kind for kinds in COVERED.values() for kind in kinds} == set(every_fact())
    assert not [what for what, kinds in COVERED.items() if not kinds or len(kinds) != len(set(kinds))]
