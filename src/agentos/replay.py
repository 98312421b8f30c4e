"""Golden runs for programs and tests.

from agentos.replay import replay_workflow
replay_workflow("workflow_data_extraction.json").content_hash()
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentos.evidence.replay import golden
from agentos.evidence.replay.content import Content
from agentos.evidence.replay.settings import GoldenSettings


def replay_workflow(name: str | Path) -> Content:
    """What a golden run comes to when it is executed again now, with no live call; its ``content_hash()`` names it.

    ``name`` is a file, or the name of one in AGENTOS_GOLDEN_FOLDER. Not for code that runs on an event loop. Raises
    GoldenUnreadable, GoldenTampered, GoldenForeignKey (Invalid), GoldenKeyUnusable (Unavailable), GoldenDiverged
    (Conflict).
    """
    settings = GoldenSettings.read()
    found = golden.load(file_of(name, settings), settings.key.get_secret_value())
    return asyncio.run(found.replay()).content


def file_of(name: str | Path, settings: GoldenSettings) -> Path:
    """The golden file of this name: where it is said to lie, else in the folder of golden files."""
    file = Path(name)
    return Path(settings.folder) / file if file.name == str(name) and not file.exists() else file


__all__ = ["replay_workflow"]
