"""The spans of a run: its acceptance, its segments, its skill calls, and its root once it is over.

invoke_agent {agent}            the run, from its acceptance to its end
├─ accept_run                   the request, linked with whoever asked
├─ segment {n}                  one attempt at one segment, in whatever process
│  ├─ chat {model}              see adapters/llm/traced.py
│  └─ execute_tool {skill}      one attempt at one call
└─ segment {n + 1} …
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, Final

from opentelemetry.trace import Span

from agentos.control.agents.model import Definition
from agentos.kernel.errors import AgentOSError
from agentos.kernel.telemetry.traces import NOTHING, Traces, vendor
from agentos.runtime.runs.model import Run, RunStatus
from agentos.runtime.runs.segment import Segment
from agentos.runtime.skills import Skill

_BAD: Final = (RunStatus.FAILED, RunStatus.BLOCKED)


def accepted(traces: Traces, run: Run) -> None:
    """Say that a request was accepted as this run, and link both with each other."""
    if traces.on:
        traces.linked(run.id, "accept_run", {**_common(run), "agentos.request_id": run.request_id})


def worked_on(traces: Traces, run: Run) -> AbstractContextManager[Span]:
    """A span around one attempt at one segment of a run."""
    if not traces.on:
        return NOTHING
    number, attempt = run.token.segment, run.token.attempt
    said = {"agentos.segment": number, "agentos.attempt": attempt}
    return traces.within(run.id, f"segment {number}", said, _common(run))


def called(segment: Segment, one: Skill, key: str, arguments: Any) -> AbstractContextManager[Span]:
    """A span around one attempt at a skill call."""
    traces = segment.parts.traces
    if not traces.on:
        return NOTHING
    said = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": one.name,
        "gen_ai.tool.type": "function",
        "agentos.step": key,
        "agentos.skill.version": one.version,
        "agentos.effect": one.effect.name,
    }
    if traces.content:
        said["gen_ai.tool.call.arguments"] = traces.told(arguments)
    return traces.span(f"execute_tool {one.name}", said)


def ended(
    traces: Traces, run: Run, definition: Definition, status: RunStatus, seconds: float, error: AgentOSError | None
) -> None:
    """Write the root span of a run that took this long."""
    if not traces.on:
        return
    now = time.time_ns()
    said = {
        **_common(run),
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": vendor(str(definition.model.get("provider", "unknown"))),
        "gen_ai.request.model": str(definition.model.get("name", "")),
        "gen_ai.agent.version": run.version,
        "agentos.request_id": run.request_id,
        "agentos.status": status.value,
    }
    code = error.code if error is not None and status in _BAD else None
    began = now - round(seconds * 1e9)
    traces.ended(run.id, f"invoke_agent {run.agent_id}", said, began=began, ended=now, error=code)


def _common(run: Run) -> dict[str, str]:
    return {
        "agentos.run_id": run.id,
        "agentos.org": run.organization,
        "agentos.deployment": run.deployment_id,
        "gen_ai.agent.id": run.agent_id,
        "gen_ai.agent.name": run.agent_id,
    }
