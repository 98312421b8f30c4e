"""file_write: whole files, once per key, and only under the roots."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.adapters.skills import file_write
from agentos.adapters.skills.confinement import PathMalformed, PathOutsideRoots, PathProtected
from agentos.adapters.skills.file_write import DiskFull, KeyReused, WriteLate
from agentos.kernel.errors import retryable
from tests.adapters.skills.conftest import Use

Roots = tuple[Path, ...]


def left(root: Path) -> list[str]:
    """Every file under a root except the records of keys."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and ".agentos-writes" not in p.parts)


async def test_a_file_is_written_with_its_folders(use: Use, roots: Roots) -> None:
    written = await use("file_write", path="notes/2026/v1.md", text="Grüße\n")
    target = roots[0] / "notes" / "2026" / "v1.md"
    assert target.read_text() == "Grüße\n"
    assert written["bytes"] == 8
    assert written["replaced_sha256"] is None
    assert left(roots[0]) == ["notes/2026/v1.md"]


async def test_the_same_key_writes_once(use: Use, roots: Roots) -> None:
    first = await use("file_write", path="notes", text="one", with_key="k1")
    (roots[0] / "notes").write_text("a person changed it")
    assert await use("file_write", path="notes", text="one", with_key="k1") == first
    assert (roots[0] / "notes").read_text() == "a person changed it"


async def test_a_repeated_early_key_does_not_undo_a_later_write(use: Use, roots: Roots) -> None:
    await use("file_write", path="notes", text="one", with_key="k1")
    second = await use("file_write", path="notes", text="two", with_key="k2")
    await use("file_write", path="notes", text="one", with_key="k1")
    assert (roots[0] / "notes").read_text() == "two"
    assert second["replaced_sha256"]


async def test_the_same_key_of_another_organization_is_another_key(use: Use, roots: Roots) -> None:
    await use("file_write", path="notes", text="one")
    await use("file_write", path="notes", text="two", with_organization="other")
    assert (roots[0] / "notes").read_text() == "two"


async def test_a_key_is_bound_to_its_path_and_text(use: Use) -> None:
    await use("file_write", path="notes", text="one")
    for other in ({"path": "notes", "text": "two"}, {"path": "elsewhere", "text": "one"}):
        with pytest.raises(KeyReused):
            await use("file_write", **other)


async def test_a_repeated_key_does_not_bring_a_removed_file_back(use: Use, roots: Roots) -> None:
    first = await use("file_write", path="a/notes", text="one")
    (roots[0] / "a" / "notes").unlink()
    (roots[0] / "a").rmdir()
    assert await use("file_write", path="a/notes", text="one") == first
    assert left(roots[0]) == []


@pytest.mark.parametrize("call", range(1, 9))
async def test_a_crash_at_any_point_is_made_good_by_the_next_attempt(
    use: Use, roots: Roots, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    (roots[0] / "notes").write_text("before")
    calls = 0

    class Killed(BaseException):
        """Stands for kill -9: no handler of the skill sees it."""

    def dying(real: Any) -> Any:
        def do(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return real(*args, **kwargs)

        return do

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(os, "rename", dying(os.rename))
        with pytest.raises(Killed):
            await use("file_write", path="notes", text="after")
    assert (roots[0] / "notes").read_text() in ("before", "after")
    written = await use("file_write", path="notes", text="after")
    assert written["bytes"] == 5
    assert (roots[0] / "notes").read_text() == "after"
    assert left(roots[0]) == ["notes"]
    assert await use("file_write", path="notes", text="after") == written


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [1, 2, 3])
async def test_a_full_disk_is_said_and_leaves_nothing_half_done(
    use: Use, roots: Roots, monkeypatch: pytest.MonkeyPatch, number: int, call: int
) -> None:
    await use("file_write", path="notes", text="before", with_key="k0")
    calls = 0
    real = file_write._put

    def full(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            real(args[0], args[1][: len(args[1]) // 2], *args[2:])
            raise OSError(number, os.strerror(number))
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(file_write, "_put", full)
        if call == 3:
            patch.setattr(os, "rename", lambda *a, **k: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
        with pytest.raises(DiskFull) as caught:
            await use("file_write", path="notes", text="after")
    assert caught.value.code == "disk_full"
    assert retryable(caught.value)
    assert (roots[0] / "notes").read_text() == "before"
    assert left(roots[0]) == ["notes"]
    await use("file_write", path="notes", text="after")
    assert (roots[0] / "notes").read_text() == "after"


async def test_readers_never_see_a_part(use: Use, roots: Roots) -> None:
    whole = {"a" * 300_000, "b" * 300_000}
    await use("file_write", path="notes", text="a" * 300_000, with_key="k0")
    seen = set()

    async def read() -> None:
        while not writing.done():
            seen.add((roots[0] / "notes").read_text())
            await asyncio.sleep(0)

    async def write() -> None:
        for number in range(10):
            await use("file_write", path="notes", text="ab"[number % 2] * 300_000, with_key=f"k{number + 1}")

    writing = asyncio.create_task(write())
    await read()
    await writing
    assert seen <= whole


async def test_many_attempts_at_once_write_once(use: Use, roots: Roots) -> None:
    written = await asyncio.gather(*(use("file_write", path="notes", text="one") for _ in range(8)))
    assert all(one == written[0] for one in written)
    assert left(roots[0]) == ["notes"]


async def test_a_write_whose_caller_gave_up_is_not_made(use: Use, roots: Roots) -> None:
    with pytest.raises(WriteLate):
        await use("file_write", path="notes", text="one", with_timeout=timedelta())
    assert left(roots[0]) == []


@pytest.mark.parametrize("path", ["../notes", "{outside}/notes", "link", "folder/notes"])
async def test_nothing_is_written_outside_the_roots(use: Use, roots: Roots, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (roots[0] / "folder").symlink_to(tmp_path / "outside")
    (roots[0] / "link").symlink_to(tmp_path / "outside" / "notes")
    with pytest.raises(PathOutsideRoots):
        await use("file_write", path=path.format(outside=tmp_path / "outside"), text="x")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("path", [".git/hooks/post-commit", "a/.GIT/config", ".agentos/x", ".agentos-writes/x"])
async def test_folders_that_say_what_to_run_are_protected(use: Use, path: str) -> None:
    with pytest.raises(PathProtected):
        await use("file_write", path=path, text="x")


async def test_only_files_are_replaced(use: Use, roots: Roots) -> None:
    (roots[0] / "folder").mkdir()
    (roots[0] / "file").write_text("x")
    os.mkfifo(roots[0] / "pipe")
    for path in ("folder", ".", "pipe", "file/below"):
        with pytest.raises(PathMalformed):
            await use("file_write", path=path, text="x")


async def test_a_replaced_file_keeps_its_mode(use: Use, roots: Roots) -> None:
    (roots[0] / "run.sh").write_text("x")
    (roots[0] / "run.sh").chmod(0o750)
    await use("file_write", path="run.sh", text="y")
    assert (roots[0] / "run.sh").stat().st_mode & 0o777 == 0o750


async def test_a_checkout_does_not_see_the_records(use: Use, roots: Roots) -> None:
    await use("file_write", path="notes", text="one")
    assert (roots[0] / ".agentos-writes" / ".gitignore").read_text() == "*\n"
