"""Documentation that cannot fall behind: generated pages equal the code, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from agentos.apps import reference
from agentos.apps.reference import errors, settings
from agentos.kernel.errors import KINDS, AgentOSError

ROOT = Path(__file__).parent.parent
PAGES = ("settings.md", "errors.md", "cli.md", "metrics.md", "policy.md", "determinism.md", "quality.md", "facts.md")

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def documents() -> list[Path]:
    """Every Markdown page of the project; what is installed or built here is not the project's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_equals_the_code(generated: dict[str, str], name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == generated[name], f"docs/reference/{name} differs from the code: run make docs"


def test_every_generated_page_is_checked(generated: dict[str, str]) -> None:
    assert set(generated) == set(PAGES)


def test_every_error_has_a_code_of_its_own() -> None:
    reference.load()
    found = errors.error_classes()
    assert not [error.__name__ for error in found if "code" not in vars(error)]
    assert not [code for code, times in Counter(error.code for error in found).items() if times > 1]


def test_an_error_subclasses_a_kind_never_the_root() -> None:
    reference.load()
    direct = {error for error in AgentOSError.__subclasses__() if error.__module__.startswith("agentos.")}
    assert direct == set(KINDS)


def test_every_error_says_what_it_means() -> None:
    reference.load()
    assert not [error.__name__ for error in errors.error_classes() if not error.__doc__]


def test_every_setting_is_described() -> None:
    reference.load()
    assert not [
        variable
        for section in settings.sections()
        for variable, field in settings.variables(section).items()
        if not field.description
    ]


def test_no_two_sections_read_one_variable() -> None:
    reference.load()
    read = Counter(variable for section in settings.sections() for variable in settings.variables(section))
    assert not [variable for variable, times in read.items() if times > 1]


def test_links_lead_to_files_and_headings_that_exist() -> None:
    broken = []
    for page in documents():
        for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue  # an address outside
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_the_index_of_decisions_names_every_record() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(file.name for file in folder.glob("*.md") if file.name != "README.md")
    assert not [name for name in records if f"({name})" not in index]
    numbers = Counter(name[:4] for name in records)
    assert not [number for number, times in numbers.items() if times > 1 or not number.isdigit()]


def test_the_checklist_numbers_each_row_once_and_in_order() -> None:
    checklist = yaml.safe_load((ROOT / "docs" / "reference" / "checklist.yaml").read_text(encoding="utf-8"))
    packs = {book["number"]: book["pack"] for book in checklist["runbooks"]}
    count: Counter[int] = Counter()
    for row in checklist["rows"]:
        count[row["runbook"]] += 1
        assert row["id"] == f"R{row['runbook']}.{count[row['runbook']]}"
        assert row["pack"] == packs[row["runbook"]]
        assert row["text"]
    assert dict(count) == {1: 23, 2: 21, 3: 22, 4: 15, 5: 15}
    assert len(checklist["contradictions"]) == 18
