from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from agentos.apps.cli.main import WORDS, asked, command_line

SLOW = (
    *("sqlalchemy", "temporalio", "fastapi", "opentelemetry", "pydantic_ai"),
    *("pydantic_settings", "asyncpg", "cryptography", "jsonschema", "phonenumbers", "semantic_version", "yaml"),
)


def commands(word: str = "") -> dict[str, typer.main.TyperCommand]:
    return typer.main.get_command(command_line(word)).commands  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("word", ["", "runs"])
def test_the_command_line_starts_without_what_only_some_commands_need(word: str) -> None:
    asks = f"import sys; from agentos.apps.cli.main import command_line; command_line({word!r})"
    tells = f"print([one for one in {SLOW!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{asks}; {tells}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_imports_no_other_feature_s_verbs() -> None:
    asks = "import sys; from agentos.apps.cli.main import command_line; command_line('runs')"
    tells = "print(sorted(one for one in sys.modules if one.startswith('agentos.apps.cli.')))"
    done = subprocess.run([sys.executable, "-c", f"{asks}; {tells}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['agentos.apps.cli.main', 'agentos.apps.cli.output', 'agentos.apps.cli.runs']"


def test_every_word_brings_in_all_that_it_has() -> None:
    whole = commands()
    assert set(whole) == {word for words in WORDS.values() for word in words}
    for word, command in whole.items():
        alone = commands(word)[word]
        assert list(getattr(alone, "commands", {})) == list(getattr(command, "commands", {}))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["runs", "list"], "runs"),
        (["--json", "runs", "--help"], "runs"),
        (["--as", "audit", "runs", "show", "health"], "runs"),
        (["--as=audit", "runs"], "runs"),
        (["--help", "runs"], ""),
        ([], ""),
    ],
)
def test_the_word_asked_for_is_the_first_that_is_no_option(arguments: list[str], word: str) -> None:
    assert asked(arguments) == word


def test_a_word_that_nobody_knows_is_told_with_all_that_there_are() -> None:
    assert commands("runz").keys() == commands().keys()
