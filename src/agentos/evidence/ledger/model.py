"""Entries, what can be wrong with a chain of them, and which facts stand for what has to be in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple

import msgspec

from agentos.kernel.errors import Invalid, NotFound
from agentos.kernel.facts import Fact

FIRST: Final = "0" * 64  # what the first entry of a chain follows


class EntryUnknown(NotFound):
    """The organization's ledger has no such entry."""

    code = "entry_unknown"


class NotYet(Invalid):
    """The moment that is asked about has not come."""

    code = "not_yet"


class MomentsSwapped(Invalid):
    """Of two moments that are compared the first is the later one."""

    code = "moments_swapped"


class Seal(StrEnum):
    """How a fact was found when it was chained."""

    WHOLE = "whole"  # as it was written
    EARLIER = "earlier"  # written before the ledger began; only at the beginning of a chain
    MISSING = "missing"  # written past the platform
    BROKEN = "broken"  # changed after it was written


class Entry(msgspec.Struct, frozen=True):
    """One link of a chain as its bytes say it. Ids and digests, never content, as in the fact that it is about."""

    number: int
    prev: str  # the hash of the entry before, as hex
    org: str
    id: str  # the fact's position on the outbox
    name: str
    key: str
    person: str | None
    run_id: str | None
    deployment_id: str | None
    at: datetime
    seal: Seal
    body: msgspec.Raw
    key_id: str = ""  # of the key that its hash is made with


class Row(NamedTuple):
    """An entry as it is stored: its bytes, what they are keyed to, and the columns that it is found by."""

    number: int
    hash: bytes
    entry: bytes
    at: datetime
    name: str
    key: str
    person: str | None
    run_id: str | None
    deployment_id: str | None


class End(NamedTuple):
    """Where a chain ends: its last entry, or nothing at all."""

    number: int
    hash: bytes
    is_sealed: bool


EMPTY: Final = End(0, bytes(32), False)


class Tampering(StrEnum):
    """What was done to a chain."""

    EDIT = "edit"
    DELETION = "deletion"
    INSERTION = "insertion"
    REORDERING = "reordering"
    TRUNCATION = "truncation"
    REPETITION = "repetition"  # facts were chained again, or in another order than they were committed in
    GAP = "gap"  # facts were kept out of the chain
    FACT = "fact"  # it was done to the fact, before it was chained
    ANCHOR = "anchor"  # it was done to the file of anchors


@dataclass(frozen=True, slots=True)
class Broken:
    """The first link of a chain that does not hold."""

    kind: Tampering
    number: int
    what: str


SET_ASIDE: Final = "facts were set aside"  # in the place of a hash


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of a chain as it was written down outside the database, or that facts behind it were set aside."""

    org: str
    number: int
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Unread:
    """Entries that cannot be verified, as their key is absent: between these numbers, so many."""

    key_id: str
    first: int
    last: int
    entries: int

    def __str__(self) -> str:
        return f"{self.entries} entries, {self.first} to {self.last}, cannot be verified: key {self.key_id} is absent"


@dataclass(frozen=True, slots=True)
class Held:
    """What anchors prove of a chain: how many were held against it, the first one, and the last that fits it."""

    anchors: int = 0
    torn: int = 0  # lines of the file that were not written to their end
    absent: frozenset[str] = frozenset()  # keys that are not there, and whose anchors prove nothing now
    first: Anchor | None = None
    last: Anchor | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look over a chain, or a part of it, found.

    What was chained after the last anchor could be cut off unseen: that is the window.
    """

    checked: int
    through: int
    entries: int
    is_whole: bool  # the look reached the end
    earlier: int  # entries of facts from before the ledger, which nothing sealed
    broken: Broken | None
    unread: tuple[Unread, ...]
    held: Held

    @property
    def window(self) -> int:
        """How many entries the last anchor does not cover."""
        return max(0, self.entries - (self.held.last.number if self.held.last else 0))


class Seen(NamedTuple):
    """What of a ledger was verified, part by part: up to which entry, and what was found first on the way; 0: none."""

    through: int
    amiss: int  # a fact that was changed or made up before it was chained
    unread: int  # an entry whose key is absent


@dataclass(frozen=True, slots=True)
class Search:
    """Which entries are looked for; an empty word is any."""

    name: str = ""
    key: str = ""
    person: str = ""
    run_id: str = ""
    deployment_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerVerified(Fact):
    """Somebody had the whole ledger verified."""

    key_field: ClassVar[str] = "organization"
    organization: str
    entries: int
    broken: (
        str  # kind and number of the first link that does not hold, 'unknown' where a key is absent; empty: all hold
    )
    by: str


# Who did what a fact tells, in the order in which one is taken.
PERSONS: Final = (
    "by",
    "decided_by",
    "changed_by",
    "applied_by",
    "created_by",
    "drafted_by",
    "promoted_by",
    "rolled_back_by",
    "paused_by",
    "resumed_by",
    "retired_by",
    "started_by",
    "resized_by",
    "ended_by",
    "overridden_by",
    "asked_by",
    "added_by",
    "handle",
    "holder",
)
