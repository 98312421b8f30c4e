"""Is it any good? Compare published notes with the history itself, without asking the agent."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

LINK: Final = re.compile(r"<(c/[0-9a-f]{7,40})>")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found."""

    commits: int  # that the history has since its last tag, or since its start
    covered: int
    links: int
    broken: int

    @property
    def good(self) -> bool:
        """Whether every commit is covered and every link resolves."""
        return self.covered == self.commits and self.broken == 0

    def __str__(self) -> str:
        return f"{self.covered}/{self.commits} commits covered, {self.links - self.broken}/{self.links} links resolve"


async def check(notes: str, repository: Path, base: str) -> Checked:
    """Follow every link of the notes over HTTP and count which commits of the history they cover."""
    expected = await asyncio.to_thread(expected_commits, repository)
    links = LINK.findall(notes)
    named = {link.removeprefix("c/") for link in links}
    covered = sum(1 for sha in expected if sha[:12] in named)
    limit = asyncio.Semaphore(50)
    async with aiohttp.ClientSession() as session:

        async def resolves(link: str) -> bool:
            async with limit, session.get(f"{base}/{link}") as answer:
                return answer.status == 200

        found = await asyncio.gather(*(resolves(link) for link in links))
    return Checked(len(expected), covered, len(links), found.count(False))


def expected_commits(repository: Path) -> list[str]:
    """The commits since the last tag, or since the start, as git itself lists them."""
    tag = _git(repository, "describe", "--tags", "--abbrev=0", "HEAD").strip()
    return _git(repository, "rev-list", f"{tag}..HEAD" if tag else "HEAD").split()


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603
        ["git", "-c", f"safe.directory={repository}", "-C", str(repository), *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""
