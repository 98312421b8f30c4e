"""LangGraph: N executions of a node, a checkpoint in PostgreSQL after each ("sync"). Argument: the database's URL."""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import TypedDict

from answering import answer, versions
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool


class State(TypedDict):
    steps: int
    n: int


async def note(state: State) -> dict[str, int]:
    return {"n": state["n"] + 1}


def after(state: State) -> str:
    return END if state["n"] >= state["steps"] else "note"


async def main() -> None:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}  # as its documentation demands
    async with AsyncConnectionPool(sys.argv[1], min_size=20, max_size=20, kwargs=options) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        builder = StateGraph(State)
        builder.add_node("note", note)
        builder.add_edge(START, "note")
        builder.add_conditional_edges("note", after, ["note", END])
        graph = builder.compile(checkpointer=saver)

        async def run(steps: int) -> None:
            config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": steps + 1}
            end = await graph.ainvoke({"steps": steps, "n": 0}, config, durability="sync")
            assert end["n"] == steps

        said = versions("langgraph", "langgraph-checkpoint-postgres", "psycopg")
        await answer({"settings": f"{said}; one node in a loop, durability sync, async saver, a pool of 20"}, run)


if __name__ == "__main__":
    asyncio.run(main())
