"""Links: facts made into entries, and entries held against each other. Pure, and the ledger's hot path.

An entry's hash is HMAC-SHA256 over its bytes, and within them stand its number and the hash of the entry before. So an
entry proves by itself which place it has, and a chain is whole when every place is held by its entry.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from agentos.evidence.ledger.model import EMPTY, FIRST, PERSONS, Broken, End, Entry, Row, Seal, Tampering
from agentos.kernel.seals import LedgerKey

# Only what is looked for is read of a body: most of it is skipped.
_said: Final = msgspec.json.Decoder(
    msgspec.defstruct("Said", [(name, Any, None) for name in (*PERSONS, "run_id", "deployment_id")])
)
_entry: Final = msgspec.json.Decoder(Entry)
_encode: Final = msgspec.json.Encoder().encode
NOWHERE: Final = (-1, -1)  # before every fact
COLUMNS: Final = ("at", "name", "key", "person", "run_id", "deployment_id")


@dataclass(slots=True)
class Batch:
    """Entries of several organizations to be added at once, and where their chains end before and after."""

    was: dict[str, End]
    now: dict[str, End]
    upto: dict[str, tuple[str, int]] = field(default_factory=dict)  # transaction and sequence of the last fact
    organizations: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    amiss: list[tuple[str, int, Seal]] = field(default_factory=list)


def chained(key: LedgerKey, ends: Mapping[str, End], facts: Iterable[Mapping[str, Any]]) -> Batch:
    """Facts of the outbox, in their order, as the next entries of their organizations' chains."""
    batch = Batch({}, {})
    keys: dict[str, bytes] = {}
    for fact in facts:
        org = fact["org"]
        end = batch.now.get(org)
        if end is None:
            end = batch.was[org] = ends.get(org, EMPTY)
            keys[org] = key.chain(org)
        seal = _seal(key, fact, end.is_sealed)
        try:
            said = _said.decode(fact["body"])
        except msgspec.DecodeError:  # no fact of the platform is such a body
            said, seal = _said.decode("{}"), Seal.BROKEN
        person = next((one for name in PERSONS if (one := _text(said, name))), None)
        run_id, deployment_id = _text(said, "run_id"), _text(said, "deployment_id")
        entry = Entry(
            end.number + 1,
            end.hash.hex(),
            org,
            f"{fact['txid']}-{fact['seq']}",
            fact["name"],
            fact["key"],
            person,
            run_id,
            deployment_id,
            fact["at"],
            seal,
            msgspec.Raw(fact["body"].encode()),
        )
        data = _encode(entry)
        digest = hmac.digest(keys[org], data, "sha256")
        batch.now[org] = End(entry.number, digest, end.is_sealed or seal is Seal.WHOLE)
        batch.upto[org] = (fact["txid"], fact["seq"])
        batch.organizations.append(org)
        batch.rows.append(
            Row(entry.number, digest, data, fact["at"], entry.name, entry.key, person, run_id, deployment_id)
        )
        if seal in (Seal.MISSING, Seal.BROKEN):
            batch.amiss.append((org, entry.number, seal))
    return batch


def _text(said: msgspec.Struct, name: str) -> str | None:
    found = getattr(said, name)
    return found if found and isinstance(found, str) else None


def _seal(key: LedgerKey, fact: Mapping[str, Any], is_sealed: bool) -> Seal:
    if fact["seal"] is None:
        return Seal.MISSING if is_sealed else Seal.EARLIER
    told = (fact["txid"], fact["seq"], fact["moment"], fact["org"], fact["name"], len(fact["key"]), fact["key"])
    message = "|".join((*map(str, told), fact["body"])).encode()
    return Seal.WHOLE if hmac.compare_digest(hmac.digest(key.seals, message, "sha256"), fact["seal"]) else Seal.BROKEN


def _position(one: Entry) -> tuple[int, int]:
    transaction, _, sequence = one.id.partition("-")
    return int(transaction), int(sequence)


class Links:
    """Rows of one chain held against each other, in the order of their numbers, as they come.

    Facts stand in the order of their commits, each once: so what is chained again is not taken for something new.
    """

    def __init__(self, key: bytes, after: Row | None = None) -> None:
        self._key = key
        self.number = 0 if after is None else after.number  # the last place that is held by the entry it belongs to
        self._prev = FIRST if after is None else after.hash.hex()
        one = None if after is None else self.read(after)
        self._is_early = after is None or (one is not None and one.seal is Seal.EARLIER)
        self._position = NOWHERE if one is None else _position(one)

    def ends_with(self, hash_: bytes) -> bool:
        """Whether this is the hash of the last entry that was taken."""
        return hmac.compare_digest(self._prev, hash_.hex())

    def read(self, row: Row) -> Entry | None:
        """The entry of a row; None when its bytes are not as they were chained."""
        if not hmac.compare_digest(hmac.digest(self._key, row[2], "sha256"), row[1]):
            return None
        return _entry.decode(row[2])

    def take(self, rows: Sequence[Row]) -> Row | None:
        """Go on over these rows. The first one that does not hold, or None."""
        key, number, prev, digest, decode = self._key, self.number, self._prev, hmac.digest, _entry.decode
        is_early, position = self._is_early, self._position
        wrong: Row | None = None
        for row in rows:
            data = row[2]
            wrong = row
            if digest(key, data, "sha256") != row[1]:
                break
            one = decode(data)
            number += 1
            if (
                number != row[0]
                or number != one.number
                or prev != one.prev
                or row[3] != one.at
                or row[4] != one.name
                or row[5] != one.key
                or row[6] != one.person
                or row[7] != one.run_id
                or row[8] != one.deployment_id
            ):
                number -= 1
                break
            if (there := _position(one)) <= position:
                number -= 1
                break
            if one.seal is not Seal.WHOLE and not (is_early and one.seal is Seal.EARLIER):
                number -= 1
                break
            is_early = is_early and one.seal is Seal.EARLIER
            prev, position = row[1].hex(), there
        else:
            wrong = None
        self.number, self._prev, self._is_early, self._position = number, prev, is_early, position
        return wrong

    def told(self, row: Row | None, *, entries: int, is_elsewhere: bool) -> Broken:
        """What is wrong at the next place: ``row`` is the next there is, ``entries`` the number of the chain's end.

        ``is_elsewhere``: the entry that belongs there stands at a later place.
        """
        place = self.number + 1
        if row is None:
            return Broken(Tampering.TRUNCATION, place, f"entries {place} to {entries} are missing at the end")
        if row.number != place:
            if is_elsewhere:
                return Broken(Tampering.REORDERING, place, f"entry {place} stands at another place")
            return Broken(Tampering.DELETION, place, f"entries {place} to {row.number - 1} are missing")
        one = self.read(row)
        if one is None:
            if is_elsewhere or place > entries:
                return Broken(Tampering.INSERTION, place, f"what stands as entry {place} was never chained")
            return Broken(Tampering.EDIT, place, f"the bytes or the hash of entry {place} were changed")
        if one.number < place:
            return Broken(Tampering.INSERTION, place, f"a copy of entry {one.number} stands at place {place}")
        if one.number > place and is_elsewhere:
            return Broken(Tampering.REORDERING, place, f"entry {one.number} stands at place {place}")
        if one.number > place:
            return Broken(Tampering.DELETION, place, f"entries {place} to {one.number - 1} are missing")
        if one.prev != self._prev:
            return Broken(Tampering.EDIT, place, f"entry {place} follows another entry than the one before it")
        wrong = [name for name in COLUMNS if getattr(row, name) != getattr(one, name)]
        if wrong:
            return Broken(Tampering.EDIT, place, f"columns of entry {place} differ from its bytes: {', '.join(wrong)}")
        if _position(one) <= self._position:
            told = "{}-{}".format(*self._position)
            return Broken(
                Tampering.REPETITION,
                place,
                f"the fact of entry {place}, {one.id}, is not behind the one before, {told}",
            )
        done = "was changed after it was written" if one.seal is Seal.BROKEN else "was written past the platform"
        return Broken(Tampering.FACT, place, f"the fact of entry {place} {done}, before it was chained")


def believed(rows: Iterable[Row]) -> Iterator[tuple[str, bytes]]:
    """Names and bodies of the facts that entries are about, without what was changed or written past the platform."""
    for row in rows:
        one = _entry.decode(row.entry)
        if one.seal in (Seal.WHOLE, Seal.EARLIER):
            yield row.name, bytes(one.body)


def shown(row: Row) -> dict[str, Any]:
    """An entry as it is told to people and programs."""
    one = _entry.decode(row.entry)
    return {
        "number": one.number,
        "id": one.id,
        "at": told_time(one.at),
        "fact": one.name,
        "key": one.key,
        "person": one.person,
        "run_id": one.run_id,
        "deployment_id": one.deployment_id,
        "seal": one.seal.value,
        "hash": row.hash.hex(),
        "prev": one.prev,
        "body": _body(one.body),
    }


def _body(body: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:  # no fact of the platform: a number that no program reads
        return bytes(body).decode()


def told_time(at: datetime) -> str:
    """A moment in UTC as it is told."""
    return at.isoformat().replace("+00:00", "Z")
