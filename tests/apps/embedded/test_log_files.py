"""Logs are bounded, also while they are written."""

from __future__ import annotations

import os
import threading

from agentos.apps.embedded import logs


def test_a_log_over_its_limit_keeps_its_past_once_and_its_writer_goes_on(tmp_path):
    log = tmp_path / "api.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        logs.rotate(log, limit_bytes=1000)
        assert log.stat().st_size == 400, "below the limit nothing happens"
        logs.rotate(log, limit_bytes=100)
        writer.write(b"new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "api.log.1").read_text() == "old\n" * 100
    assert (tmp_path / "api.log.1").stat().st_mode & 0o777 == 0o600


def test_tail_gives_the_last_lines_and_survives_what_is_not_text(tmp_path):
    log = tmp_path / "api.log"
    assert logs.tail(log, 3) == []
    log.write_bytes(b"one\ntwo\nthr\xffee\n")
    assert logs.tail(log, 2) == ["two", "thr\N{REPLACEMENT CHARACTER}ee"]
    assert logs.tail(log, 0) == []


def test_follow_gives_new_lines_only_and_goes_on_after_a_rotation(tmp_path):
    log = tmp_path / "api.log"
    log.write_text("before\n")
    found: list[str] = []
    lines = logs.follow(log, pause_seconds=0.01)

    def write() -> None:
        with open(log, "a") as writer:
            writer.write("whole\nha")
            writer.flush()
            writer.write("lf\n")

    starter = threading.Timer(0.05, write)
    starter.start()
    found += [next(lines), next(lines)]
    starter.join()
    os.truncate(log, 0)
    starter = threading.Timer(0.05, lambda: log.write_text("again\n"))
    starter.start()
    found.append(next(lines))
    starter.join()
    assert found == ["whole", "half", "again"]
