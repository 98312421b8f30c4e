"""What came of a shadow comes with how sure it is."""

from __future__ import annotations

import pytest

from agentos.evidence.quality.model import Figure
from agentos.operations.shadows.model import Shown


def test_what_shadows_would_have_cost_more_has_students_interval() -> None:
    shown = Shown(4, 4, 1, 3, 4, 4, 1_000_000, 129_099.4448735806)  # 0.1, 0.2, 0.3 and 0.4 dollars
    found = shown.figures["dollars_more"]
    assert found.value == 0.25
    assert found.low == pytest.approx(0.04457397)  # scipy.stats.t.interval(0.95, 3, 0.25, sem)
    assert found.high == pytest.approx(0.45542603)
    assert shown.figures["completed"].samples == 4


def test_of_no_runs_everything_is_unknown() -> None:
    figures = Shown(0, 0, 0, 0, 0, 0, None, None).figures
    assert set(figures.values()) == {Figure(None, None, None, 0)}
