"""A route that validates the body of a run and answers 202, and nothing else: ``python bare_fastapi.py PORT``.

It is served as the API is (see ``agentos.apps.api.__main__``) and runs in AgentOS's environment, on the same versions.
"""

from __future__ import annotations

import sys
import uuid
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field

app = FastAPI()


class NewRun(BaseModel):
    """A request for a run, as AgentOS takes it."""

    model_config = ConfigDict(extra="forbid")
    agent: str = Field(max_length=63)
    environment: str = Field("production", max_length=63)
    input: Any


@app.get("/health")
async def health() -> dict[str, str]:
    """It serves."""
    return {"status": "healthy"}


@app.post("/api/v1/runs", status_code=202)
async def start_run(
    body: NewRun, response: Response, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
) -> dict[str, Any]:
    """Validate, keep nothing, and accept."""
    run_id = idempotency_key or uuid.uuid4().hex
    response.headers["Location"] = f"/api/v1/runs/{run_id}"
    return {"id": run_id, "agent_id": body.agent, "status": "accepted", "input": body.input}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
    )
