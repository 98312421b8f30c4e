"""The recognizer that comes with the platform finds what is listed and no more, and says what is wrong with a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos.adapters.recognizers.listed import listed
from agentos.control.privacy.model import Rules
from agentos.control.privacy.ports import recognizer_of
from agentos.control.privacy.values import redact
from agentos.kernel.settings import BadSetting

NAMED = "agentos.adapters.recognizers.listed:listed"


def test_what_is_listed_is_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "list"
    file.write_text("# staff\nname: Ann Lee\nname: Ann\naddress: Hauptstr. 1\n")
    monkeypatch.setenv("AGENTOS_PRIVACY_LIST", str(file))
    shown, _ = redact("ANN LEE of Hauptstr. 1, Annette Lee and ann", Rules(), recognizer=recognizer_of(NAMED))
    assert shown == "[REDACTED: NAME] of [REDACTED: ADDRESS], Annette Lee and [REDACTED: NAME]"


@pytest.mark.parametrize("content", ["", "Ann Lee\n", "nickname: Ann\n", "name:\n"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    file = tmp_path / "list"
    file.write_text(content)
    monkeypatch.setenv("AGENTOS_PRIVACY_LIST", str(file))
    with pytest.raises(BadSetting):
        list(listed("Ann"))


def test_a_recognizer_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadSetting):
        recognizer_of("agentos.adapters.recognizers:none")
