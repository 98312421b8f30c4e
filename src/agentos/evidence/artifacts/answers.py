"""Sentences and what each stands on: one that does not cite what was found, or says more than that, is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agentos.evidence.artifacts.entries import Entry

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


@dataclass(frozen=True, slots=True)
class Checked:
    """The sentences that stand on what they cite, and how many did not."""

    kept: tuple[Sentence, ...]
    dropped: int


def checked(said: Iterable[Sentence], entries: Sequence[Entry], times: str) -> Checked:
    """Keep each sentence that cites entries which were found, where these hold every id, number and name that it says.

    A name counts, however it is written, when it or a part of it is one of those that any entry is about: so nobody is
    said to have approved what the cited entries do not say they approved. Of the question only ``times`` counts, the
    words of its time: what else it says may be wrong.
    """
    kept: list[Sentence] = []
    dropped = 0
    known = {part for one in entries for name in one.names for part in _names(name)}
    for one in said:
        text = " ".join(one.text.split())
        cites = tuple(dict.fromkeys(one.cites))
        stands = bool(text) and len(text) <= MOST_SENTENCE and bool(cites)
        stands = stands and all(1 <= number <= len(entries) for number in cites)
        if stands:
            cited = " ".join(_whole(entries[number - 1]) for number in cites)
            there = {*_EXACT.findall(cited), *_EXACT.findall(times)}
            stands = {*_EXACT.findall(text)} <= there and _names(text) & known <= _names(cited)
        if stands and len(kept) < MOST_SENTENCES:
            kept.append(Sentence(text, cites))
        else:
            dropped += not stands
    return Checked(tuple(kept), dropped)


def extracted(entries: Sequence[Entry]) -> list[Sentence]:
    """The sentence of each entry as it is written down, without any model: the newest, in the order of time."""
    numbered = list(enumerate(entries, 1))[-MOST_SENTENCES:]
    return [Sentence(entry.sentence, (number,)) for number, entry in numbered]


def _names(text: str) -> set[str]:
    """The words of a text that may be names, and what these are joined of: "Bob.Lee" is bob.lee, bob and lee."""
    words = {word.casefold() for word in _NAME.findall(text)}
    return words.union(*(_JOINED.split(word) for word in words)) - {""}


def _whole(entry: Entry) -> str:
    places = (entry.run_id, entry.step, entry.approval_id, entry.stop_id, entry.digest)
    return " ".join((entry.sentence, entry.quote, *places))
