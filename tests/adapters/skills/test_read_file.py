"""read_file: text under the roots, and nothing else."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from agentos.adapters.skills.confinement import (
    FileMissing,
    PathMalformed,
    PathOutsideRoots,
    confined,
    folder,
)
from agentos.adapters.skills.read_file import MOST_BYTES, FileTooLarge, NotText
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use

Roots = tuple[Path, ...]


async def test_a_text_file_is_read_whole(use: Use, roots: Roots) -> None:
    text = "Grüße\r\n\nzweite Zeile"
    (roots[0] / "a").mkdir()
    (roots[0] / "a" / "notes.md").write_bytes(text.encode())
    read = await use("read_file", path="a/notes.md")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    assert read == {
        "path": str(roots[0] / "a" / "notes.md"),
        "text": text,
        "bytes": len(text.encode()),
        "sha256": sha256,
    }
    assert await use("read_file", path=str(roots[0] / "a" / "notes.md")) == read


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "{outside}", "/etc/passwd", "link", "folder/secret", "far/secret"]
)
async def test_no_path_leads_out_of_the_roots(use: Use, roots: Roots, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (roots[0] / "a").mkdir()
    (roots[0] / "link").symlink_to(tmp_path / "secret")
    (roots[0] / "folder").symlink_to(tmp_path)
    (roots[0] / "far").symlink_to("a/../..")
    with pytest.raises(PathOutsideRoots) as caught:
        await use("read_file", path=path.format(outside=tmp_path / "secret"))
    assert caught.value.code == "path_outside_roots"
    assert "s3cret" not in str(caught.value)


async def test_a_root_beside_one_of_a_similar_name_is_not_that_root(use: Use, roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "secret").write_text("s3cret")
    with pytest.raises(PathOutsideRoots):
        await use("read_file", path=str(tmp_path / "root-2" / "secret"))


async def test_a_link_inside_the_roots_is_followed(use: Use, roots: Roots, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "notes").write_text("here")
    (roots[0] / "link").symlink_to(second / "notes")
    assert (await use("read_file", path="link", with_roots=(roots[0], second)))["text"] == "here"


async def test_a_root_may_itself_be_a_link(use: Use, roots: Roots, tmp_path: Path) -> None:
    (roots[0] / "notes").write_text("here")
    (tmp_path / "alias").symlink_to(roots[0])
    assert (await use("read_file", path="notes", with_roots=(tmp_path / "alias",)))["text"] == "here"


def test_a_folder_swapped_for_a_link_after_the_check_is_not_followed(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "notes").write_text("s3cret")
    (roots[0] / "a").mkdir()
    place = confined("a/notes", roots)
    (roots[0] / "a").rmdir()
    (roots[0] / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(PathMalformed), folder(place, place.names[:-1]):
        pass


async def test_without_roots_nothing_is_read(use: Use) -> None:
    with pytest.raises(PathOutsideRoots, match="no folders"):
        await use("read_file", path="notes", with_roots=())


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "\ud800", "n" * 300])
async def test_what_is_no_path_is_refused(use: Use, path: str) -> None:
    with pytest.raises((PathMalformed, ArgumentsRefused, FileMissing)) as caught:
        await use("read_file", path=path)
    assert caught.value.kind.__name__ == "Invalid"


async def test_a_missing_file_is_not_found(use: Use) -> None:
    with pytest.raises(FileMissing):
        await use("read_file", path="nowhere/notes")


async def test_only_regular_files_are_opened(use: Use, roots: Roots) -> None:
    os.mkfifo(roots[0] / "pipe")
    (roots[0] / "folder").mkdir()
    (roots[0] / "circle").symlink_to("circle")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(roots[0] / "socket"))
        for path in ("pipe", "folder", ".", "socket", "circle", "folder/../pipe"):
            with pytest.raises((PathMalformed, PathOutsideRoots)):
                await use("read_file", path=path)


async def test_a_device_is_not_read(use: Use) -> None:
    with pytest.raises(PathMalformed, match="not a regular file"):
        await use("read_file", path="/dev/zero", with_roots=(Path("/dev"),))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"text\0more", "ä".encode("latin-1")])
async def test_binary_is_refused_clearly(use: Use, roots: Roots, data: bytes) -> None:
    (roots[0] / "file").write_bytes(data)
    with pytest.raises(NotText):
        await use("read_file", path="file")


async def test_a_large_file_is_refused_and_not_cut(use: Use, roots: Roots) -> None:
    (roots[0] / "file").write_text("x" * 1025)
    with pytest.raises(FileTooLarge, match="1024 bytes"):
        await use("read_file", path="file", max_bytes=1024)
    assert (await use("read_file", path="file", max_bytes=1025))["bytes"] == 1025
    with pytest.raises(ArgumentsRefused):
        await use("read_file", path="file", max_bytes=MOST_BYTES + 1)
