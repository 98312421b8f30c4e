"""Read the commits of a git repository under the declared roots.

git itself is asked, as a process that can run nothing the repository names (hooks, helpers, file monitors), reach no
network and read no settings but the repository's own. Revisions are resolved to commit ids first; only ids go further.

Stated outcomes: a repository without commits has none (``head`` is null); a shallow clone says so (``shallow``) and
"since the start" then means since its boundary; a repository without tags reads "since the last tag" as since the
start; a tagged head has no commits since the last tag.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict

from agentos.adapters.skills.confinement import MAX_PATH, PathOutsideRoots, confined, under
from agentos.kernel.errors import Bug, Invalid, NotFound, Unavailable
from agentos.runtime.skills import SkillContext, skill

MOST_COMMITS: Final = 20_000
MOST_BYTES: Final = 64 * 1024 * 1024  # 20,000 commits are ~4 MB; a subject may be of any length
MOST_SUBJECT: Final = 500  # characters; longer ones are cut

# No "-" first (git would take it for an option), no "..", ":" or blanks: one revision, never a range or a search.
REVISION: Final = r"^[^\s\-:^~\x00-\x1f\x7f][^\s:\x00-\x1f\x7f]{0,199}$"

_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_OPTIONAL_LOCKS": "0",  # reads only, also where git would refresh its index
    "GIT_NO_REPLACE_OBJECTS": "1",  # the history as it was written
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # older gits fetch what a partial clone lacks; no protocol is called "none"
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
}
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=" + os.devnull,
    "log.showSignature=false",  # would run the repository's gpg.program
    "log.mailmap=false",  # names as they were written; mailmap.file could lie anywhere
    "core.abbrev=12",
    "i18n.logOutputEncoding=UTF-8",
)
_FORMAT: Final = "%H%x00%h%x00%P%x00%aI%x00%an%x00%s"  # no e-mail addresses: nobody needs them in an agent's hands


class RepositoryMissing(NotFound):
    """The folder is not the top of a git repository."""

    code = "repository_missing"


class RevisionUnknown(NotFound):
    """The repository has no commit of that name."""

    code = "revision_unknown"


class RevisionMalformed(Invalid):
    """A text that names no single commit."""

    code = "revision_malformed"


class GitMissing(Unavailable):
    """git is not installed where the worker runs."""

    code = "git_missing"


class GitFailed(Bug):
    """git could not read the repository: it may be damaged."""

    code = "git_failed"


class Commit(TypedDict):
    """A commit. ``date`` is the author's, ISO 8601; ``parents`` is how many there are: two or more is a merge."""

    sha: str
    short: str
    author: str
    date: str
    subject: str
    parents: int


class History(TypedDict):
    """What was read. ``total`` counts the commits in the range, also when ``truncated`` says that not all are here."""

    repository: str
    head: str | None  # the commit that ``until`` names
    since: str | None  # the commit after which the range begins; null: the start
    last_tag: str | None  # the nearest tag at or before ``until``
    shallow: bool
    total: int
    truncated: bool
    commits: list[Commit]


@skill(version="1", effect="S0", timeout="60s")
async def git_log(
    context: SkillContext,
    path: Annotated[str, Field(max_length=MAX_PATH, description="The repository's top folder.")] = ".",
    since: Annotated[
        str,
        Field(
            pattern=REVISION,
            description="Leave out this commit and all before it: a tag, branch or commit; 'last-tag' for the nearest "
            "tag (or the start when there is none); 'start' for everything. A ref of such a name: refs/tags/NAME.",
        ),
    ] = "last-tag",
    until: Annotated[str, Field(pattern=REVISION, description="The last commit: a tag, branch or commit.")] = "HEAD",
    limit: Annotated[int, Field(ge=1, le=MOST_COMMITS, description="Most commits to return; the newest stay.")] = 1000,
    order: Annotated[Literal["newest", "oldest"], Field(description="Which comes first.")] = "newest",
) -> History:
    """Read the commits of a git repository between two points of its history."""
    repository = confined(path, context.roots).path
    shallow = await _shallow(repository, context.roots)
    head = await _commit(repository, until)
    if head is None:
        if until != "HEAD":
            raise RevisionUnknown(f"there is no commit '{until}' in {repository}", then="Name a tag, branch or commit.")
        if await _git(repository, "rev-parse", "--verify", "--quiet", "HEAD", fails=True):
            raise GitFailed(f"the newest commit of {repository} is missing", then="Check the repository with git fsck.")
        return _history(repository, shallow=shallow)
    tag = await _git(repository, "describe", "--tags", "--abbrev=0", head, fails=True)
    last_tag = tag.strip() or None
    start = {"start": None, "last-tag": last_tag and f"refs/tags/{last_tag}"}.get(since, since)
    begin = await _commit(repository, start) if start else None
    if start and begin is None:
        raise RevisionUnknown(f"there is no commit '{start}' in {repository}", then="Name a tag, branch or commit.")
    reach = [head, *([f"^{begin}"] if begin else [])]
    counted = await _git(repository, "rev-list", "--count", *reach)
    listed = await _git(repository, "log", "-z", f"--max-count={limit}", f"--format={_FORMAT}", "--no-color", *reach)
    commits = _commits(listed)
    if order == "oldest":
        commits.reverse()
    return _history(
        repository,
        head=head,
        since=begin,
        last_tag=last_tag,
        shallow=shallow,
        total=int(counted),
        commits=commits,
    )


async def repository_folders(repository: Path) -> list[Path]:
    """Every folder that git reads for a repository: itself, its git folders (a worktree has two) and borrowed objects.

    All of them must lie under the roots, so who declares a repository as a root declares these.
    Raises RepositoryMissing (NotFound), GitMissing (Unavailable).
    """
    asked = await _git(repository, "rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", missing=True)
    return _folders(repository, asked.splitlines())


def _folders(repository: Path, git_folders: list[str]) -> list[Path]:
    found = [Path(os.path.realpath(one)) for one in (str(repository), *git_folders)]
    objects = [Path(os.path.realpath(found[-1] / "objects"))]
    for one in objects:  # grows while it is walked: borrowed objects may borrow in turn
        with contextlib.suppress(OSError, UnicodeDecodeError):
            lines = (one / "info" / "alternates").read_text().splitlines()
            named = [Path(os.path.realpath(one / line)) for line in lines if line and not line.startswith("#")]
            objects += [other for other in named if other not in objects]
    return list(dict.fromkeys([*found, *objects]))


async def _shallow(repository: Path, roots: tuple[Path, ...]) -> bool:
    """Whether the repository is shallow, once it is sure that all git will read lies under the roots."""
    for one in await repository_folders(repository):
        if not under(one, roots):
            raise PathOutsideRoots(
                f"the repository '{repository}' keeps a part of itself at '{one}', where skills may not read",
                then="Declare that folder as a root as well, or use a plain clone.",
            )
    return (await _git(repository, "rev-parse", "--is-shallow-repository")).strip() == "true"


async def _commit(repository: Path, revision: str) -> str | None:
    if ".." in revision:
        raise RevisionMalformed(f"'{revision}' names a range, not one commit")
    asking = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    found = await _git(repository, *asking, revision + "^{commit}", fails=True)
    return found.strip() or None


def _commits(listed: str) -> list[Commit]:
    fields = listed.split("\0")
    return [
        {
            "sha": sha,
            "short": short,
            "author": author,
            "date": date,
            "subject": subject if len(subject) <= MOST_SUBJECT else subject[: MOST_SUBJECT - 1] + "…",
            "parents": len(parents.split()),
        }
        for sha, short, parents, date, author, subject in zip(*[iter(fields)] * 6, strict=False)
    ]


def _history(
    repository: Path,
    *,
    shallow: bool,
    head: str | None = None,
    since: str | None = None,
    last_tag: str | None = None,
    total: int = 0,
    commits: list[Commit] | None = None,
) -> History:
    commits = commits or []
    return {
        "repository": str(repository),
        "head": head,
        "since": since,
        "last_tag": last_tag,
        "shallow": shallow,
        "total": total,
        "truncated": total > len(commits),
        "commits": commits,
    }


async def _git(repository: Path, *arguments: str, fails: bool = False, missing: bool = False) -> str:
    """What git says. ``fails``: no answer (exit 1 or 128) is an answer, the empty text."""
    settings = [part for setting in (*_SETTINGS, f"safe.directory={repository}") for part in ("-c", setting)]
    # The ceiling keeps git from finding a repository above the folder, which may be above the roots.
    environment = _ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(repository.parent)}
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            "-C",
            str(repository),
            "--no-pager",
            *settings,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # so that whatever git started ends with it
        )
    except FileNotFoundError:
        raise GitMissing("git is not installed where the worker runs", then="Install git.") from None
    assert process.stdout
    assert process.stderr
    try:
        said, complained = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status == 0:
        return said.decode(errors="replace")
    if fails and status in (1, 128):
        return ""
    reason = complained.decode(errors="replace").strip()[:300]
    if missing and ("not a git repository" in reason or "cannot change to" in reason):
        raise RepositoryMissing(f"'{repository}' is not the top folder of a git repository")
    raise GitFailed(f"git {arguments[0]} ended with {status}: {reason}", then="Check the repository with git fsck.")


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    said = bytearray()
    while chunk := await stream.read(1 << 18):
        said += chunk
        if len(said) > MOST_BYTES:
            raise GitFailed(f"git said more than {MOST_BYTES} bytes", then="Lower limit.")
    return bytes(said)
