"""The built-in skills as the loop calls them: arguments checked against the schema, results against theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.adapters.skills import BUILT_IN
from agentos.runtime.skills import Registry, SkillContext
from agentos.runtime.skills.service import canonical_arguments, execute

SKILLS = Registry().load(BUILT_IN, entry_points=False)

Use = Callable[..., Awaitable[Any]]


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, ...]:
    """One declared folder; what lies beside it in ``tmp_path`` is outside."""
    root = tmp_path / "root"
    root.mkdir()
    return (root,)


@pytest.fixture
def use(roots: tuple[Path, ...]) -> Use:
    """Call a built-in skill by name; ``context`` values may be given as ``with_…``."""

    async def call(name: str, **arguments: Any) -> Any:
        given = {key.removeprefix("with_"): arguments.pop(key) for key in list(arguments) if key.startswith("with_")}
        one = SKILLS.get(name, "1")
        context = SkillContext(
            **{
                "organization": "acme",
                "run_id": "run_1",
                "key": "key-1",
                "timeout": timedelta(seconds=20),
                "roots": roots,
            }
            | given
        )
        return await execute(one, context, canonical_arguments(one, arguments)[0])

    return call
