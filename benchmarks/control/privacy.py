"""What the finder of personal data finds, what it takes for such and is not, and how fast it looks.

``python -m benchmarks.control.privacy`` prints both tables; PEERS_PYTHON names the interpreter of the peers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from agentos.control.privacy.finder import find
from agentos.control.privacy.model import ALWAYS, Rules
from benchmarks.control.corpus import Corpus, Document
from benchmarks.report import Row, write

SEED: Final = 7_151  # reported; the detector was tuned on other seeds
POSITIVES: Final = 40  # per kind and kind of text: 240 of every kind
NEGATIVES: Final = 60  # per source
ROUNDS: Final = 3
PEERS: Final = ("detect-secrets", "scrubadub", "presidio")
CLASS_A: Final = frozenset(kind.value for kind in ALWAYS)

Span = tuple[int, int, str]


class Score:
    """What was found of what was planted, and what was found beside it."""

    def __init__(self) -> None:
        self.planted: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.false: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()  # by where
        self.taken: Counter[str] = Counter()  # for personal, and are not, by where

    def add(self, document: Document, spans: Sequence[Span]) -> None:
        """Judge the findings in a document. A value is found when no part of it is left."""
        for one in document.planted:
            self.planted[one.kind] += 1
            if _covered(one.start, one.end, spans):
                self.found[one.kind] += 1
            else:
                self.missed[document.source] += 1
        for start, end, kind in spans:
            if not any(start < one.end and end > one.start for one in document.planted):
                self.false[kind] += 1
                self.taken[f"{kind} in {document.source}"] += 1

    def recall(self, kinds: frozenset[str]) -> float | None:
        """The part of what was planted that was found."""
        planted = sum(self.planted[kind] for kind in kinds)
        return sum(self.found[kind] for kind in kinds) / planted if planted else None

    def precision(self, kinds: frozenset[str]) -> float | None:
        """The part of what was found that was planted."""
        found = sum(self.found[kind] for kind in kinds)
        false = sum(self.false[kind] for kind in kinds)
        return found / (found + false) if found + false else None


def _covered(start: int, end: int, spans: Sequence[Span]) -> bool:
    for first, last, _ in sorted(spans):
        if first <= start < last:
            start = last
    return start >= end


def documents() -> list[Document]:
    """The corpus."""
    corpus = Corpus(SEED)
    return [*corpus.positives(POSITIVES), *corpus.negatives(NEGATIVES)]


def ours(corpus: Sequence[Document]) -> tuple[Score, float]:
    """Our score and the megabytes that we look through in a second."""
    rules, score, size = Rules(), Score(), sum(len(one.text.encode()) for one in corpus)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = [find(one.text, rules) for one in corpus]
        seconds.append(time.perf_counter() - began)
    for document, findings in zip(corpus, found, strict=True):
        score.add(document, [(one.start, one.end, one.kind.value) for one in findings])
    return score, size / 1e6 / median(seconds)


def peers(corpus: Sequence[Document]) -> tuple[dict[str, tuple[Score, float]], dict[str, str]]:
    """The scores and speeds of the peers that are there, and why the others are not."""
    python = os.environ.get("PEERS_PYTHON", str(Path(__file__).parents[2] / ".venv-peers/bin/python"))
    scores: dict[str, tuple[Score, float]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps([one.text for one in corpus]))
        for name in PEERS:
            told = _peer(python, name, texts)
            if isinstance(told, str):
                missing[name] = told
                continue
            score = Score()
            for document, spans in zip(corpus, told["spans"], strict=True):
                score.add(document, [(start, end, kind) for start, end, kind in spans])
            scores[name] = score, told["megabytes_per_second"]
    return scores, missing


def _peer(python: str, name: str, texts: Path) -> dict[str, Any] | str:
    script = Path(__file__).parent.parent / "peers" / "finding.py"
    try:
        said = subprocess.run(
            [python, str(script), name, str(texts)], capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: its environment is not there or it took too long"
    if said.returncode:
        return said.stderr.strip().splitlines()[-1][:200] if said.stderr.strip() else f"exit {said.returncode}"
    told: dict[str, Any] = json.loads(said.stdout)
    return told


def rows() -> tuple[list[Row], list[Row], dict[str, str], Score]:
    """The rows of the first and of the second table, what is missing and why, and our score with its places."""
    corpus = documents()
    score, speed = ours(corpus)
    others, missing = peers(corpus)
    every = frozenset({*score.planted})

    def of(take: Callable[[Score], float | None]) -> dict[str, float | None]:
        return {name: take(others[name][0]) if name in others else None for name in PEERS}

    first = [
        Row("PII recall, class A", "ratio", score.recall(CLASS_A), 0.99, "higher", of(lambda one: one.recall(CLASS_A))),
        Row("PII precision", "ratio", score.precision(every), 0.98, "higher", of(lambda one: one.precision(every))),
        Row(
            "PII scan", "MB/s", speed, None, "higher",
            {name: others[name][1] if name in others else None for name in PEERS},
        ),
    ]  # fmt: skip
    second = []
    for kind in score.planted:
        one = frozenset({kind})
        for word, take in (("recall", Score.recall), ("precision", Score.precision)):
            figures = {name: take(others[name][0], one) if name in others else None for name in PEERS}
            second.append(Row(f"{kind}, {word}", "ratio", take(score, one), None, "higher", figures))
    return first, second, missing, score


def main() -> None:
    """Print both tables and where the misses and mistakes are."""
    first, second, missing, score = rows()
    planted, found = sum(score.planted.values()), sum(score.found.values())
    print(f"seed {SEED}, {planted} values planted, {found} found; {sum(score.false.values())} findings that are none")
    write("control-privacy", first, title="Personal data", missing=missing)
    write("control-privacy-types", second, title="Personal data by type")
    for title, where in (("missed", score.missed), ("taken for personal data", score.taken)):
        for source, count in where.most_common(40 if "-v" in sys.argv else 8):
            print(f"{title}: {count} × {source}")


if __name__ == "__main__":
    main()
