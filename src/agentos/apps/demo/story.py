"""The demo's story: what happens in which order, said as it happens, and a table of what happened at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from agentos.adapters.skills.git_log import repository_folders
from agentos.apps.client import Client, connect
from agentos.apps.demo.check import Checked, check, expected_commits
from agentos.apps.demo.receiver import Receiver
from agentos.apps.embedded import verbs
from agentos.apps.embedded.home import Home
from agentos.control.agents import manifest
from agentos.kernel.errors import Bug, Invalid, NotFound

AGENT: Final = "release_notes_agent"
MANIFEST: Final = Path(__file__).parent / "agents" / f"{AGENT}.yaml"
PATIENCE_SECONDS: Final = 40.0  # for one run: a takeover takes 3 s, settling a call on the wire up to 12 s more

Say = Callable[[str], None]
Confirm = Callable[[dict[str, Any]], Awaitable[bool]]


class NoRepository(NotFound):
    """The demo needs a git repository to read."""

    code = "demo_no_repository"


class DemoFailed(Bug):
    """Something that the demo claims did not hold."""

    code = "demo_failed"


class DemoDenied(Invalid):
    """The person at the keyboard said no to the demo's approval."""

    code = "demo_denied"


@dataclass(slots=True)
class Story:
    """What is told: to a person line by line, and as rows at the end."""

    say: Say
    confirm: Confirm
    rows: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def row(self, step: str, outcome: str, evidence: str) -> None:
        """Add a row to the table, and say it."""
        self.rows.append({"step": step, "outcome": outcome, "evidence": evidence})
        self.say(f"{time.monotonic() - self.began:5.1f} s  {step}: {outcome}")


async def tell(repository: Path, home: Home, *, say: Say, confirm: Confirm) -> dict[str, Any]:
    """Tell the whole story on this repository; what happened, as data. Raises DemoFailed (Bug) if a claim fails."""
    if not (repository / ".git").exists() and not (repository / "HEAD").exists():
        raise NoRepository(f"{repository} is not the top of a git repository", then="Name one with --repo PATH.")
    story = Story(say, confirm)
    async with Receiver(repository) as receiver, _stack(story, home, receiver, repository):
        author, approver = connect("author"), connect("approver")
        await _chapters(story, repository, receiver, author, approver, home)
    return {
        "repository": str(repository),
        "model": "claude" if os.environ.get("ANTHROPIC_API_KEY") else "stub",
        "seconds": round(time.monotonic() - story.began, 1),
        "steps": story.rows,
        "look_again": f"AGENTOS_HOME={home.path} agentos up",
    }


async def _chapters(
    story: Story, repository: Path, receiver: Receiver, author: Client, approver: Client, home: Home
) -> None:
    applied = await _apply(author, hasty=False)
    deployment = applied["deployment_id"]
    first = applied["version"]
    story.row("apply version 1", f"{first[:19]} serves", f"agentos deployments show {deployment}")

    if not expected_commits(repository):
        run = await _finished(author, await _start(author, repository, receiver))
        if receiver.published or run["status"] != "completed":
            raise DemoFailed("an empty history was published", where=run["id"])
        story.row("run on an empty history", str(run["output"]), f"agentos runs show {run['id']} --journal")
        return

    found = await _released(story, "run version 1", repository, receiver, author, approver, first)
    if not found.good:
        raise DemoFailed(f"version 1 should cover everything: {found}")

    second = (await _apply(author, hasty=True))["version"]
    await _post(author, f"/api/v1/agents/deployments/{deployment}/promote", {"version": second})
    story.row("promote version 2", f"{second[:19]} serves", f"agentos deployments show {deployment}")
    found = await _released(story, "run version 2", repository, receiver, author, approver, second)
    if found.good:
        raise DemoFailed("version 2 drops commits and the check did not find it")

    await _post(author, f"/api/v1/agents/deployments/{deployment}/rollback", {"version": first})
    story.row("roll back", f"{first[:19]} serves again", f"agentos deployments show {deployment}")
    found = await _released(story, "run after rollback", repository, receiver, author, approver, first)
    if not found.good:
        raise DemoFailed(f"version 1 should cover everything again: {found}")

    await _kill_in_the_middle(story, repository, receiver, author, approver, home)


async def _released(
    story: Story, step: str, repository: Path, receiver: Receiver, author: Client, approver: Client, version: str
) -> Checked:
    """One run from request to published notes, approved on the way, and what the check says of the notes."""
    before = len(receiver.published)
    run = await _start(author, repository, receiver)
    if run["version"] != version:
        raise DemoFailed(f"the run uses {run['version'][:19]}, not {version[:19]}", where=run["id"])
    await _approve(story, author, approver, run["id"])
    run = await _finished(author, run)
    if run["status"] != "completed" or len(receiver.published) != before + 1:
        raise DemoFailed(f"the run ended {run['status']}: {run['problem'] or run['output']}", where=run["id"])
    found = await check(receiver.published[-1]["notes"], repository, receiver.hook.removesuffix("/hook"))
    story.row(step, str(found), f"agentos runs show {run['id']} --journal")
    return found


async def _kill_in_the_middle(
    story: Story, repository: Path, receiver: Receiver, author: Client, approver: Client, home: Home
) -> None:
    """Kill the worker whose call is on the wire; the other one finishes the run and nothing is published twice."""
    before, repeated = len(receiver.published), receiver.repeated
    while not receiver.callers.empty():
        receiver.callers.get_nowait()
    receiver.hold.clear()
    run = await _start(author, repository, receiver)
    await _approve(story, author, approver, run["id"])
    port = await asyncio.wait_for(receiver.callers.get(), PATIENCE_SECONDS)
    victim = _owner_of(port, home)
    os.kill(victim.pid, signal.SIGKILL)
    receiver.hold.set()
    story.row(f"kill -9 {victim.name}", "its call was on the wire; the receiver has the notes", "agentos ps")
    run = await _finished(author, run)
    published = len(receiver.published) - before
    if run["status"] != "completed" or published != 1:
        raise DemoFailed(f"after the kill the run ended {run['status']} and published {published}", where=run["id"])
    sent = f"sent {receiver.repeated - repeated + 1} times with one key, published once"
    story.row(
        "taken over",
        f"completed in segment {run['segment']}; {sent}",
        f"agentos runs show {run['id']} --journal",
    )


@dataclass(frozen=True, slots=True)
class _Victim:
    name: str
    pid: int


def _owner_of(port: int, home: Home) -> _Victim:
    """The worker that holds the connection from this port."""
    for service in home.state().services:
        if service.name.startswith("worker") and service.pid:
            for one in psutil.Process(service.pid).net_connections("tcp"):
                if one.laddr and one.laddr.port == port:
                    return _Victim(service.name, service.pid)
    raise DemoFailed("no worker holds the call that is on the wire")


async def _approve(story: Story, author: Client, approver: Client, run_id: str) -> None:
    """Wait for the run's question and answer it as another person than the one who asked for the run."""

    async def asked() -> dict[str, Any] | None:
        found = await asyncio.to_thread(approver.get, "/api/v1/approvals", run=run_id)
        return found["items"][0] if found["items"] else None

    approval = await _until(asked, f"the run {run_id} did not ask for approval", author, run_id)
    if not await story.confirm(approval):
        await _post(approver, f"/api/v1/approvals/{approval['id']}/deny", {"note": "no, said at the keyboard"})
        raise DemoDenied("the approval was denied; nothing was published", where=approval["id"])
    await _post(approver, f"/api/v1/approvals/{approval['id']}/approve", {"note": "looks right"})


async def _start(author: Client, repository: Path, receiver: Receiver) -> dict[str, Any]:
    given = {"repository": str(repository), "hook": receiver.hook}
    run: dict[str, Any] = await _post(author, "/api/v1/runs", {"agent": AGENT, "input": given})
    return run


async def _finished(author: Client, run: dict[str, Any]) -> dict[str, Any]:
    async def over() -> dict[str, Any] | None:
        found: dict[str, Any] = await asyncio.to_thread(author.get, f"/api/v1/runs/{run['id']}")
        return found if found["ended_at"] else None

    return await _until(over, f"the run {run['id']} did not end", author, run["id"])


async def _until(
    look: Callable[[], Awaitable[dict[str, Any] | None]], otherwise: str, author: Client, run_id: str
) -> dict[str, Any]:
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(0.05)
    why = await asyncio.to_thread(author.get, f"/api/v1/runs/{run_id}/why")
    raise DemoFailed(f"{otherwise}: {why.get('why')}", where=run_id)


async def _apply(author: Client, *, hasty: bool) -> dict[str, Any]:
    documents = [one.document() for one in manifest.read_files([MANIFEST])]
    spec = documents[0]["spec"]
    if hasty:
        spec["instructions"] = spec["instructions"].replace("Leave out no\ncommit.", "Every second commit is enough.")
        spec["model"]["behaviour"] = "release_notes_hasty"
    if os.environ.get("ANTHROPIC_API_KEY"):
        name = os.environ.get("AGENTOS_DEMO_MODEL", "claude-sonnet-4-5")
        spec["model"] = {"provider": "claude", "name": name, "max_tokens": 16000}
    applied = await _post(author, "/api/v1/agents", {"documents": documents})
    one: dict[str, Any] = applied["applied"][0]
    return one


async def _post(client: Client, path: str, body: dict[str, Any]) -> Any:
    return await asyncio.to_thread(client.post, path, body)


@asynccontextmanager
async def _stack(story: Story, home: Home, receiver: Receiver, repository: Path) -> AsyncIterator[None]:
    """A stack of the demo's own, with two workers; stopped at the end, its data kept as evidence."""
    folders = [str(repository), *(str(one) for one in await repository_folders(repository))]
    os.environ |= {
        "AGENTOS_HOME": str(home.path),
        "AGENTOS_RUN_ROOTS": ":".join(folders),
        "AGENTOS_WEBHOOK_ALLOW": f"127.0.0.1:{receiver.port}",
        "AGENTOS_SECRET_RELEASE_HOOK": receiver.secret,
    }
    await asyncio.to_thread(verbs.down, home, say=lambda _text: None)
    state = await asyncio.to_thread(verbs.up, home, workers=2, say=story.say)
    story.row("start", f"PostgreSQL, Temporal, API and two workers at {state.api}", f"{home.path}/logs")
    try:
        yield
    finally:
        await asyncio.to_thread(verbs.down, home, say=story.say)
