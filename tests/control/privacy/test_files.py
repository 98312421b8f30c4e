"""Files: what is found is told by place, what is not looked through is said, and a file is the old or the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentos.control.privacy import files
from agentos.control.privacy.files import Place
from agentos.control.privacy.model import Kind, Mode, Rules

TEXT = "first line\r\nmail ann@example.com\n\tcard 4111 1111 1111 1111\n"


def agentos(*words: str, given: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "agentos.apps.cli.main", "privacy", *words],
        input=given,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_finding_is_told_by_line_and_column_and_never_by_value(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode())
    looked = files.scan(file, Rules())
    assert looked.places == (Place(2, 6, "EMAIL"), Place(3, 7, "CARD"))
    code, out, err = agentos("scan", str(tmp_path))
    assert (code, out) == (1, f"{file}:2:6: EMAIL\n{file}:3:7: CARD\n")
    assert "ann@" not in out + err and "4111" not in out + err


def test_redacting_changes_nothing_but_what_was_found(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode())
    file.chmod(0o640)
    assert agentos("redact", "--dry-run", str(file))[0] == 1
    assert file.read_bytes() == TEXT.encode()
    assert agentos("redact", str(file))[0] == 0
    assert file.read_bytes() == b"first line\r\nmail [REDACTED: EMAIL]\n\tcard [REDACTED: CARD]\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert agentos("scan", str(file))[0] == 0


def test_what_is_not_looked_through_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binary").write_bytes(b"\0ann@example.com")
    (tmp_path / "latin").write_bytes(b"\xe4 ann@example.com")
    (tmp_path / "link").symlink_to(tmp_path / "latin")
    (tmp_path / "empty").write_bytes(b"")
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    (tmp_path / "huge").write_bytes(b"a" * 101)
    looked = {Path(one).name: files.scan(one, Rules()).skipped for one in files.files([tmp_path])}
    assert {name for name, why in looked.items() if why} == {"binary", "latin", "link", "huge"}
    assert "100 bytes" in looked["huge"]
    code, out, _ = agentos("scan", "--json", str(tmp_path / "binary"), str(tmp_path / "nothing"))
    told: Any = json.loads(out)
    assert code == 8
    assert [one["skipped"] for one in told["files"]] == ["it is binary, or not in UTF-8", "there is no such file"]


def test_standard_input_goes_to_standard_output() -> None:
    code, out, err = agentos("redact", "-", given=b"mail ann@example.com\n")
    assert (code, out, err) == (0, "mail [REDACTED: EMAIL]\n", "")
    assert agentos("scan", "-", given=b"1.2.3.4\n")[0] == 0
    assert agentos("scan", "--also", "ip", "-", given=b"10.2.3.4\n")[0] == 1
    code, _, err = agentos("redact", "-", given=b"\0")
    assert (code, "input_not_text" in err) == (2, True)


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    looked = files.rewrite(file, Rules(mode=Mode.REMOVE), dry_run=False)
    assert "No space" in looked.skipped
    assert file.read_bytes() == TEXT.encode()
    assert len(list(tmp_path.iterdir())) == 1
    assert Kind.EMAIL not in looked.counts
