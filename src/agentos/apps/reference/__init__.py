"""The generated pages of the reference, written from the code, so that they cannot fall behind it.

``make docs`` writes them; ``tests/test_docs.py`` compares them with the files.
"""

from __future__ import annotations

from agentos.apps.reference import commands, determinism, errors, facts, metrics, policy, quality, settings
from agentos.apps.reference.loaded import load


def pages() -> dict[str, str]:
    """All generated pages, by file name. Loads every module of the platform; the same code gives the same pages."""
    load()
    return {
        "settings.md": settings.page(),
        "errors.md": errors.page(),
        "cli.md": commands.page(),
        "metrics.md": metrics.page(),
        "policy.md": policy.page(),
        "determinism.md": determinism.page(),
        "quality.md": quality.page(),
        "facts.md": facts.page(),
    }
