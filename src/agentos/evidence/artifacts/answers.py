"""Sentences and what each stands on: one that does not cite what was found, or says more than that, is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agentos.evidence.artifacts.entries import Entry
from agentos.evidence.artifacts.questions import SILENT

MOST_SENTENCES: Final = 20
MOST_SENTENCE: Final = 1000  # characters
UNKNOWN: Final = "unknown"

# What can be checked letter by letter: ids, and numbers such as times, amounts and counts.
_EXACT: Final = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}|\d+(?:[.,:/-]\d+)*")
_NAME: Final = re.compile(r"[\w@.:-]*\w")
_JOINED: Final = re.compile(r"[@.:-]+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something said, with the numbers of the entries that it stands on, from 1."""

    text: str
    cites: tuple[int, ...]
    quotes: bool = False  # it says what only quoted contents hold, which anybody may have written


@dataclass(frozen=True, slots=True)
class Checked:
    """The sentences that stand on what they cite, how many did not, and how many did and are too many."""

    kept: tuple[Sentence, ...]
    dropped: int
    left_out: int = 0


def checked(said: Iterable[Sentence], entries: Sequence[Entry], times: str) -> Checked:
    """Keep each sentence that cites entries which were found, where these hold every id, number and name that it says.

    A name counts, however it is written, when it or a part of it is one of those that any entry is about: so nobody is
    said to have approved what the cited entries do not say they approved. Of the question only ``times`` counts, the
    words of its time: what else it says may be wrong. What takes a word from quoted contents is marked.
    """
    kept: list[Sentence] = []
    dropped = left_out = 0
    known = {part for one in entries for name in one.names for part in _names(name)}
    for one in said:
        text = " ".join(one.text.split())
        cites = tuple(dict.fromkeys(one.cites))
        stands = bool(text) and len(text) <= MOST_SENTENCE and bool(cites)
        stands = stands and all(1 <= number <= len(entries) for number in cites)
        if stands:
            cited = [entries[number - 1] for number in cites]
            whole = " ".join(f"{_record(entry)} {entry.quote}" for entry in cited)
            there = {*_EXACT.findall(whole), *_EXACT.findall(times)}
            stands = {*_EXACT.findall(text)} <= there and _names(text) & known <= _names(whole)
        if not stands:
            dropped += 1
        elif len(kept) == MOST_SENTENCES:
            left_out += 1
        else:
            quoted = _names(" ".join(one.quote for one in cited)) - _names(" ".join(map(_record, cited)))
            kept.append(Sentence(text, cites, quotes=bool(_names(text) & quoted - SILENT)))
    return Checked(tuple(kept), dropped, left_out)


def extracted(entries: Sequence[Entry]) -> list[Sentence]:
    """The sentence of each entry as it is written down, without any model: the newest, in the order of time."""
    numbered = list(enumerate(entries, 1))[-MOST_SENTENCES:]
    return [Sentence(entry.sentence, (number,)) for number, entry in numbered]


def _names(text: str) -> set[str]:
    """The words of a text that may be names, and what these are joined of: "Bob.Lee" is bob.lee, bob and lee."""
    words = {word.casefold() for word in _NAME.findall(text)}
    return words.union(*(_JOINED.split(word) for word in words)) - {""}


def _record(entry: Entry) -> str:
    return " ".join((entry.sentence, entry.run_id, entry.step, entry.approval_id, entry.stop_id, entry.digest))
