"""``agentos demo``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.apps.cli import output
from agentos.apps.embedded.home import Home
from agentos.apps.home import home_folder


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


def demo(
    repo: Annotated[Path, typer.Option("--repo", help="A git repository to read.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Approve without asking at the keyboard.")] = False,
) -> None:
    """Deploy an agent, run it, approve its effect, roll a bad version back, kill a worker: live, and checked."""
    from agentos.apps.demo import story

    home = Home(home_folder() / "demo")

    async def confirm(approval: dict[str, Any]) -> bool:
        if yes or not sys.stdin.isatty():
            return True
        output.progress(f"\n{approval['requested_by']} asks: may {approval['skill']} be called with these arguments?")
        output.progress(str(approval["arguments"])[:800])
        return bool(await asyncio.to_thread(typer.confirm, "Approve?", err=True))

    told = asyncio.run(story.tell(repo.resolve(), home, say=output.progress, confirm=confirm))
    if output.as_json:
        output.show(told)
        return
    output.show(told["steps"], columns=("step", "outcome", "evidence"))
    output.show({name: told[name] for name in ("repository", "model", "seconds", "look_again")})
