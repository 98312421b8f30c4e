"""Which version of a skill is meant by an exact one, a range, or ``latest``."""

from __future__ import annotations

import pytest

from agentos.runtime.skills.model import SkillVersionMalformed
from agentos.runtime.skills.versions import chosen, declarable

THERE = ("1", "1.2", "1.2.3", "1.10.0", "2.0.0-rc1", "2.0.0", "3.0.0-a", "2024-05", "blue")


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("1", "1"),
        ("blue", "blue"),
        ("2024-05", "2024-05"),
        ("3.0.0-a", "3.0.0-a"),
        ("^1.2", "1.10.0"),
        ("~1.2", "1.2.3"),
        (">=1.2,<2", "1.10.0"),
        (">= 1.2, < 1.3", "1.2.3"),
        ("==1.2.3", "1.2.3"),
        ("latest", "2.0.0"),
        ("1.0.0", None),  # an exact version is its text
        ("9", None),
        ("^9", None),
        ("^3", None),  # only a pre-release is there
    ],
)
def test_a_version_a_range_and_latest_mean_the_highest_that_fits(wanted: str, version: str | None) -> None:
    assert chosen(wanted, THERE) == version
    assert chosen(wanted, reversed(THERE)) == version


def test_latest_is_a_pre_release_only_where_nothing_was_released() -> None:
    assert chosen("latest", ["2.0.0-rc2", "2.0.0-rc10"]) == "2.0.0-rc2"
    assert chosen("latest", ["2.0.0-rc.2", "2.0.0-rc.10"]) == "2.0.0-rc.10"
    assert chosen("latest", ["blue", "green"]) is None


@pytest.mark.parametrize("wanted", ["", " ", "^", "^x", "1.2 || 2", "==", ">=1,,<2", "^1" + "0" * 99, "${1}", "^1\n;"])
def test_what_is_no_version_is_refused(wanted: str) -> None:
    with pytest.raises(SkillVersionMalformed, match="is no version"):
        chosen(wanted, THERE)


def test_a_skill_is_not_called_latest_or_a_range() -> None:
    assert [one for one in ("1", "1.2.0", "2024-05", "latest", "^1", "", "a b", "1\n") if declarable(one)] == [
        "1",
        "1.2.0",
        "2024-05",
    ]
