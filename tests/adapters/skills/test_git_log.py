"""git_log on real repositories: empty, shallow, large, hostile."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agentos.adapters.skills import git_log
from agentos.adapters.skills.confinement import PathOutsideRoots
from agentos.adapters.skills.git_log import (
    GitFailed,
    GitMissing,
    RepositoryMissing,
    RevisionMalformed,
    RevisionUnknown,
    repository_folders,
)
from agentos.kernel.errors import Invalid
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use

Roots = tuple[Path, ...]

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada Lovelace",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


def git(at: Path, *arguments: str, feed: bytes | None = None, **env: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(at), *arguments], env=ENVIRONMENT | env, input=feed, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def commit(at: Path, subject: str, day: int = 1) -> str:
    date = f"2026-01-{day:02d}T12:00:00+02:00"
    git(at, "commit", "-q", "--allow-empty", "-m", subject, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
    return git(at, "rev-parse", "HEAD")


@pytest.fixture
def repository(roots: Roots) -> Path:
    git(roots[0], "init", "-q", "-b", "main", "work")
    return roots[0] / "work"


def subjects(history: dict[str, Any]) -> list[str]:
    return [one["subject"] for one in history["commits"]]


async def test_commits_since_the_last_tag_are_read(use: Use, repository: Path) -> None:
    commit(repository, "one", 1)
    tagged = commit(repository, "two", 2)
    git(repository, "tag", "v1.0")
    commit(repository, "three", 3)
    head = commit(repository, "fix: four – ünï", 4)
    history = await use("git_log", path="work")
    assert subjects(history) == ["fix: four – ünï", "three"]
    assert history["commits"][0] == {
        "sha": head,
        "short": head[:12],
        "author": "Ada Lovelace",
        "date": "2026-01-04T12:00:00+02:00",
        "subject": "fix: four – ünï",
        "parents": 1,
    }
    assert (history["head"], history["since"], history["last_tag"]) == (head, tagged, "v1.0")
    assert (history["total"], history["truncated"], history["shallow"]) == (2, False, False)
    assert "example.com" not in repr(history)


async def test_the_range_and_the_order_can_be_chosen(use: Use, repository: Path) -> None:
    first = commit(repository, "one", 1)
    commit(repository, "two", 2)
    commit(repository, "three", 3)
    git(repository, "tag", "v1.0", "HEAD~1")
    git(repository, "tag", "start", "HEAD")  # a tag may be called like a word of ours
    assert subjects(await use("git_log", path="work", since="start", order="oldest")) == ["one", "two", "three"]
    assert subjects(await use("git_log", path="work", since=first, order="oldest")) == ["two", "three"]
    assert subjects(await use("git_log", path="work", since="start", until="v1.0")) == ["two", "one"]
    assert subjects(await use("git_log", path="work", since="refs/tags/start")) == []


async def test_a_limit_keeps_the_newest_and_says_so(use: Use, repository: Path) -> None:
    for day in range(1, 6):
        commit(repository, f"day {day}", day)
    history = await use("git_log", path="work", limit=2, order="oldest")
    assert subjects(history) == ["day 4", "day 5"]
    assert (history["total"], history["truncated"]) == (5, True)


async def test_an_empty_repository_has_no_commits(use: Use, repository: Path) -> None:
    history = await use("git_log", path="work")
    assert history == {
        "repository": str(repository),
        "head": None,
        "since": None,
        "last_tag": None,
        "shallow": False,
        "total": 0,
        "truncated": False,
        "commits": [],
    }


async def test_one_commit_is_a_history(use: Use, repository: Path) -> None:
    commit(repository, "one")
    history = await use("git_log", path="work")
    assert subjects(history) == ["one"]
    assert history["commits"][0]["parents"] == 0


async def test_a_tagged_head_has_nothing_since_the_last_tag(use: Use, repository: Path) -> None:
    commit(repository, "one")
    git(repository, "tag", "-a", "v1", "-m", "annotated")
    history = await use("git_log", path="work")
    assert (history["last_tag"], history["total"]) == ("v1", 0)


async def test_a_shallow_clone_says_so(use: Use, repository: Path, roots: Roots) -> None:
    for day in range(1, 6):
        commit(repository, f"day {day}", day)
    git(roots[0], "clone", "-q", "--depth", "2", f"file://{repository}", "shallow")
    history = await use("git_log", path="shallow")
    assert subjects(history) == ["day 5", "day 4"]
    assert history["shallow"]


async def test_a_merge_is_known_by_its_parents(use: Use, repository: Path) -> None:
    commit(repository, "base")
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "side")
    git(repository, "checkout", "-q", "main")
    commit(repository, "main")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge side", "side")
    history = await use("git_log", path="work")
    assert {one["subject"]: one["parents"] for one in history["commits"]}["merge side"] == 2


async def test_ten_thousand_commits_are_read_quickly(use: Use, repository: Path) -> None:
    stream = "".join(
        f"commit refs/heads/main\ncommitter A <a@example.com> {1_700_000_000 + n} +0000\n"
        f"data {len(f'commit number {n}')}\ncommit number {n}\n"
        for n in range(10_000)
    )
    git(repository, "fast-import", "--quiet", feed=stream.encode())
    began = time.monotonic()
    history = await use("git_log", path="work", limit=20_000, order="oldest")
    assert time.monotonic() - began < 5  # 0.4 s on two shared cores
    assert (history["total"], len(history["commits"]), history["truncated"]) == (10_000, 10_000, False)
    assert history["commits"][0]["subject"] == "commit number 0"


async def test_a_strange_subject_and_author_do_not_shift_fields(use: Use, repository: Path) -> None:
    git(
        repository, "commit", "-q", "--allow-empty", "-m", "a\x01b %x00 | " + "long " * 200, GIT_AUTHOR_NAME="O'Br\tien"
    )
    git(repository, "commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    history = await use("git_log", path="work")
    assert [one["author"] for one in history["commits"]] == ["Ada Lovelace", "O'Br\tien"]
    assert history["commits"][0]["subject"] == ""
    assert history["commits"][1]["subject"].startswith("a\x01b %x00 | long")
    assert len(history["commits"][1]["subject"]) == 500


async def test_a_subject_in_another_encoding_is_still_text(use: Use, repository: Path) -> None:
    message = "Grüße".encode("latin-1")
    git(repository, "-c", "i18n.commitEncoding=latin-1", "commit", "-q", "--allow-empty", "-F", "-", feed=message)
    tip = git(repository, "rev-parse", "HEAD")
    broken = f"commit refs/heads/main\ncommitter A <a@b> 1800000000 +0000\ndata 8\nbroken \xff\nfrom {tip}\n"
    git(repository, "fast-import", "--quiet", feed=broken.encode("latin-1"))
    assert subjects(await use("git_log", path="work")) == ["broken \ufffd", "Grüße"]


@pytest.mark.parametrize(
    "revision", ["--output=/tmp/x", "-n1", "HEAD..main", "a b", ":/search", "^HEAD", "HEAD:file", "a\nb", "", "x" * 300]
)
async def test_a_revision_can_be_no_option_range_or_search(use: Use, repository: Path, revision: str) -> None:
    commit(repository, "one")
    for name in ("since", "until"):
        with pytest.raises((ArgumentsRefused, RevisionMalformed)) as caught:
            await use("git_log", path="work", **{name: revision})
        assert isinstance(caught.value, Invalid)


async def test_an_unknown_revision_is_not_found(use: Use, repository: Path) -> None:
    with pytest.raises(RevisionUnknown):
        await use("git_log", path="work", until="v9")
    commit(repository, "one")
    for arguments in ({"since": "v9"}, {"until": "v9"}, {"until": "0" * 40}):
        with pytest.raises(RevisionUnknown, match=r"v9|000"):
            await use("git_log", path="work", **arguments)


async def test_only_the_top_of_a_repository_will_do(use: Use, repository: Path, roots: Roots) -> None:
    commit(repository, "one")
    (repository / "below").mkdir()
    (roots[0] / "file").write_text("x")
    for path in ("work/below", ".", "nowhere", "file"):
        with pytest.raises(RepositoryMissing):
            await use("git_log", path=path)


async def test_a_repository_around_the_root_is_not_found(use: Use, roots: Roots, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    commit(tmp_path, "secret")
    with pytest.raises(RepositoryMissing):
        await use("git_log", path=".")


async def test_no_repository_outside_the_roots_is_read(use: Use, roots: Roots, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    git(tmp_path, "init", "-q", "outside")
    commit(outside, "secret")
    (roots[0] / "link").symlink_to(outside)
    (roots[0] / "pointer").mkdir()
    (roots[0] / "pointer" / ".git").write_text(f"gitdir: {outside}/.git\n")
    git(roots[0], "clone", "-q", "--shared", str(outside), "borrowing")
    git(outside, "worktree", "add", "-q", "--detach", str(roots[0] / "tree"))
    git(roots[0], "init", "-q", "linked")
    (roots[0] / "linked" / ".git" / "objects").rename(roots[0] / "gone")
    (roots[0] / "linked" / ".git" / "objects").symlink_to(outside / ".git" / "objects")
    for path in (str(outside), "../outside", "link", "pointer", "borrowing", "tree", "linked"):
        with pytest.raises(PathOutsideRoots):
            await use("git_log", path=path)
    wider = (*roots, *await repository_folders(roots[0] / "borrowing"), *await repository_folders(roots[0] / "tree"))
    assert subjects(await use("git_log", path="borrowing", with_roots=wider)) == ["secret"]
    assert subjects(await use("git_log", path="tree", with_roots=wider)) == ["secret"]


async def test_nothing_that_a_repository_names_is_run(use: Use, repository: Path, tmp_path: Path) -> None:
    commit(repository, "one")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "core.pager", str(trap))
    git(repository, "config", "pager.log", str(trap))
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "gpg.program", str(trap))
    git(repository, "config", "alias.log", f"!{trap}")
    git(repository, "config", "diff.external", str(trap))
    git(repository, "config", "core.sshCommand", str(trap))
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "core.repositoryFormatVersion", "1")
    git(repository, "config", "remote.origin.url", f"ext::{trap}")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "protocol.ext.allow", "always")
    assert subjects(await use("git_log", path="work")) == ["one"]
    with pytest.raises(RevisionUnknown):
        await use("git_log", path="work", until="1" * 40)  # a promisor would be asked for it
    assert not (tmp_path / "ran").exists()


async def test_the_workers_own_git_settings_do_not_matter(
    use: Use, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, "one")
    git(tmp_path, "init", "-q", "other")
    for name, value in {"GIT_DIR": str(tmp_path / "other" / ".git"), "GIT_CONFIG_COUNT": "x", "GIT_TRACE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert subjects(await use("git_log", path="work")) == ["one"]


async def test_a_repository_of_another_user_is_read(use: Use, repository: Path) -> None:
    commit(repository, "one")
    if os.geteuid() == 0:  # only root can give files away; for others git's own check has nothing to refuse
        for folder, _, files in os.walk(repository):
            for name in (".", *files):
                os.lchown(os.path.join(folder, name), 12345, 12345)
    assert subjects(await use("git_log", path="work")) == ["one"]


async def test_a_bare_repository_is_read(use: Use, repository: Path, roots: Roots) -> None:
    commit(repository, "one")
    git(roots[0], "clone", "-q", "--bare", str(repository), "bare.git")
    assert subjects(await use("git_log", path="bare.git")) == ["one"]


async def test_a_damaged_repository_is_not_an_empty_one(use: Use, repository: Path) -> None:
    sha = commit(repository, "one")
    (repository / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    with pytest.raises(GitFailed, match="fsck"):
        await use("git_log", path="work")


async def test_without_git_the_skill_is_unavailable(
    use: Use, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(git_log._ENVIRONMENT, "PATH", str(tmp_path))
    with pytest.raises(GitMissing):
        await use("git_log", path="work")


async def test_a_cancelled_call_leaves_no_git(
    use: Use, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setitem(git_log._ENVIRONMENT, "PATH", f"{fake.parent}:{os.defpath}")
    asking = asyncio.create_task(use("git_log", path="work"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(10):  # the signal was sent; when the kernel carries it out on a busy machine is its own
        while alive(group=int((tmp_path / "pid").read_text())):
            await asyncio.sleep(0.01)


def alive(group: int) -> list[str]:
    """The processes of a group that still run; the dead that nobody has collected do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group, *_ = rest.split()
        if int(its_group) == group and state != "Z":
            found.append(name)
    return found
