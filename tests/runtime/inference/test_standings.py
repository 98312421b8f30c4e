"""How models do, as every process saw them last, and how much of that is kept."""

from __future__ import annotations

import uuid

import pytest

from agentos.kernel.database import Database
from agentos.runtime.inference import standings
from agentos.runtime.inference.breaker import State
from agentos.runtime.inference.model import ModelUnknown
from agentos.runtime.inference.router import Router
from agentos.runtime.inference.settings import RouterSettings
from agentos.runtime.inference.standings import MOST_MODELS, Board, Seen
from tests.runtime.inference.fakes import Fake, Fakes
from tests.runtime.inference.test_router import refused


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standings, "GATHER_SECONDS", 0.0)


@pytest.fixture
def process() -> str:
    """A process that no other test is."""
    return f"w{uuid.uuid4().hex}"


async def of(board: Board, process: str) -> list[Seen]:
    await board.close()
    return [one for one in await board.every() if one.process == process]


async def test_another_process_reads_the_last_word_on_each_model(database: Database, process: str) -> None:
    board = Board(database, process)
    board.tell("a", "a-1", State.CLOSED, "ok")
    board.tell("a", "a-2", State.CLOSED, "ok")
    await board.close()
    board.tell("a", "a-1", State.OPEN, "ERR_LLM_TIMEOUT")
    await board.close()
    seen = await of(Board(database, process), process)
    assert [(one.model, one.state, one.outcome) for one in seen] == [
        ("a-1", State.OPEN, "ERR_LLM_TIMEOUT"),
        ("a-2", State.CLOSED, "ok"),
    ]


async def test_names_that_clients_make_up_push_out_only_what_was_asked_longest_ago(
    database: Database, process: str
) -> None:
    board = Board(database, process)
    for number in range(MOST_MODELS + 50):
        board.tell("ollama", f"made-up-{number}", State.CLOSED, "ERR_LLM_INVALID_MODEL")
        board.tell("claude", "large", State.CLOSED, "ok")
        if number % 100 == 0:
            await board.close()
    seen = await of(board, process)
    assert len(board._told) == MOST_MODELS
    assert len([one for one in seen if one.provider == "ollama"]) <= MOST_MODELS
    assert [one.model for one in seen if one.provider == "claude"] == ["large"]
    again = Board(database, process)  # a process of the same name, that has forgotten what it told
    for number in range(MOST_MODELS):
        again.tell("ollama", f"other-{number}", State.CLOSED, "ok")
    assert len([one for one in await of(again, process) if one.provider == "ollama"]) == MOST_MODELS


async def test_a_process_keeps_no_more_models_in_mind_than_that() -> None:
    held = Router(Fakes(Fake("ollama", else_=ModelUnknown("no such model"))), RouterSettings.read())
    for number in range(MOST_MODELS + 20):
        await refused(held, {"provider": "ollama", "name": f"made-up-{number}"})
    kept = {one.model for one in held.watch.standings()}
    assert len(kept) == MOST_MODELS
    assert f"made-up-{MOST_MODELS + 19}" in kept
    assert "made-up-0" not in kept
