"""Which version a manifest means: an exact one, the highest in a range, or the latest.

A version is whatever its author calls it (``1``, ``1.2.0``, ``2024-05``) and is always found by that very text. Those
that are numbers by Semantic Versioning, or its beginning (``1`` stands for 1.0.0), are ordered; ranges and ``latest``
choose among them and pass over pre-releases unless there is nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from semantic_version import SimpleSpec, Version

from agentos.runtime.skills.model import SkillVersionMalformed

LATEST: Final = "latest"
EXACT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
MOST: Final = 64  # characters of a range
_NUMBER: Final = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){0,2}([-+].*)?")


def chosen(wanted: str, versions: Iterable[str]) -> str | None:
    """The version that is wanted, out of these; None when there is none.

    Raises SkillVersionMalformed (Invalid) for what is neither a version nor a range nor ``latest``.
    """
    there = list(versions)
    if wanted in there:
        return wanted
    if wanted != LATEST and EXACT.fullmatch(wanted):
        return None
    spec = None if wanted == LATEST else _range(wanted)
    ordered = [(number, one) for one in there if (number := ordinal(one)) is not None]
    fitting = [(number, one) for number, one in ordered if spec is None or number in spec]
    released = [(number, one) for number, one in fitting if not number.prerelease]
    best = max(released or fitting, key=lambda each: (each[0].precedence_key, len(each[1]), each[1]), default=None)
    return best[1] if best else None


def ordinal(version: str) -> Version | None:
    """Where a version stands in the order of its skill's versions, or None when it is no number."""
    if not _NUMBER.fullmatch(version):
        return None
    try:
        return Version.coerce(version)
    except ValueError:
        return None


def declarable(version: str) -> bool:
    """Whether a skill may be called this version."""
    return version != LATEST and EXACT.fullmatch(version) is not None


def _range(wanted: str) -> SimpleSpec:
    try:
        if len(wanted) > MOST:
            raise ValueError
        return SimpleSpec("".join(wanted.split()))
    except ValueError:
        raise SkillVersionMalformed(
            f"'{wanted[:MOST]}' is no version, no range of versions and not 'latest'",
            then="Write 1.2.0, ^1.2, ~1.2, '>=1.2,<2' or latest.",
        ) from None
