"""Links: facts made into entries, and entries held against each other. Pure, and the ledger's hot path.

An entry's hash is HMAC-SHA256 over its bytes, and within them stand its number and the hash of the entry before. So an
entry proves by itself which place it has, and a chain is whole when every place is held by its entry.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from agentos.evidence.ledger.model import EMPTY, FIRST, PERSONS, Broken, End, Entry, Row, Seal, Tampering, Unread
from agentos.kernel.seals import LedgerKeys

# Only what is looked for is read of a body: most of it is skipped.
_said: Final = msgspec.json.Decoder(
    msgspec.defstruct("Said", [(name, Any, None) for name in (*PERSONS, "run_id", "deployment_id")])
)
_entry: Final = msgspec.json.Decoder(Entry)
_encode: Final = msgspec.json.Encoder().encode
UNREADABLE: Final = "unreadable"  # in the place of a seal: its bytes are none of an entry
NOWHERE: Final = (-1, -1)  # before every fact
MOST_ABSENT: Final = 16  # keys; nobody replaces one so often and loses all
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


def chained(keys: LedgerKeys, ends: Mapping[str, End], facts: Iterable[Mapping[str, Any]], *, began: int) -> Batch:
    """Facts of the outbox, in their order, as the next entries of their organizations' chains.

    ``began``: the first transaction whose facts all have to be sealed.
    """
    batch, now = Batch({}, {}), keys.now
    of_chains: dict[str, bytes] = {}
    for fact in facts:
        org = fact["org"]
        end = batch.now.get(org)
        if end is None:
            end = batch.was[org] = ends.get(org, EMPTY)
            of_chains[org] = now.chain(org)
        seal = _seal(keys, fact, is_early=not end.is_sealed and int(fact["txid"]) < began)
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
            now.id,
        )
        data = _encode(entry)
        digest = hmac.digest(of_chains[org], data, "sha256")
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


def _seal(keys: LedgerKeys, fact: Mapping[str, Any], *, is_early: bool) -> Seal:
    if fact["seal"] is None:
        return Seal.EARLIER if is_early else Seal.MISSING
    told = (fact["txid"], fact["seq"], fact["moment"], fact["org"], fact["name"], len(fact["key"]), fact["key"])
    message = "|".join((*map(str, told), fact["body"])).encode()
    for key in keys.every:  # a process that has run for long seals with the key of its start
        if hmac.compare_digest(hmac.digest(key.seals, message, "sha256"), fact["seal"]):
            return Seal.WHOLE
    return Seal.BROKEN


def _position(one: Entry) -> tuple[int, int]:
    transaction, _, sequence = one.id.partition("-")
    return int(transaction), int(sequence)


class Links:
    """Rows of one chain held against each other, in the order of their numbers, as they come.

    Facts stand in the order of their commits, each once: so what is chained again is not taken for something new. Each
    entry names its key. Where one is absent, its entries are held against everything but their hash, and told.
    """

    def __init__(self, keys: LedgerKeys, organization: str, after: Row | None = None) -> None:
        self._keys, self._organization = keys, organization
        self._key, self._key_id = secrets.token_bytes(32), ""  # that of the last entry; nobody's where there is none
        self.earlier = 0  # entries that were taken of facts from before the ledger
        self._before = ""  # the key before an absent one
        self._absent: dict[str, Unread] = {}
        self._forged: Unread | None = None
        self.number = 0 if after is None else after.number  # the last place that is held by the entry it belongs to
        self._prev = FIRST if after is None else after.hash.hex()
        one = None if after is None else self.read(after)
        self._is_early = after is None or (one is not None and one.seal is Seal.EARLIER)
        self._position = NOWHERE if one is None else _position(one)
        if one is not None and (key := keys.of(one.key_id)) is not None:
            self._key, self._key_id = key.chain(organization), key.id

    @property
    def unread(self) -> tuple[Unread, ...]:
        """What cannot be verified."""
        return tuple(self._absent.values())

    def ends_with(self, hash_: bytes) -> bool:
        """Whether this is the hash of the last entry that was taken."""
        return hmac.compare_digest(self._prev, hash_.hex())

    def read(self, row: Row) -> Entry | None:
        """The entry of a row; None when its bytes are not as they were chained, as far as that can be told."""
        one = _decoded(row[2])
        key = None if one is None else self._keys.of(one.key_id)
        if key is None:
            return one
        told = hmac.digest(key.chain(self._organization), row[2], "sha256")
        return one if hmac.compare_digest(told, row[1]) else None

    def take(self, rows: Sequence[Row]) -> Row | None:
        """Go on over these rows. The first one that does not hold, or None."""
        key, number, prev, digest, decode = self._key, self.number, self._prev, hmac.digest, _entry.decode
        is_early, position = self._is_early, self._position
        wrong: Row | None = None
        for row in rows:
            data = row[2]
            wrong = row
            if digest(key, data, "sha256") != row[1]:
                if not self._goes_on_by_another_key(row):
                    break
                key = self._key
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
            if is_early:
                is_early = one.seal is Seal.EARLIER
                self.earlier += is_early
            prev, position = row[1].hex(), there
        else:
            wrong = None
        self.number, self._prev, self._is_early, self._position = number, prev, is_early, position
        return wrong

    def _goes_on_by_another_key(self, row: Row) -> bool:
        """Whether the row is as it was chained by the key that it names, or that key is absent."""
        one = _decoded(row[2])
        if one is None:
            return False
        key = self._keys.of(one.key_id)
        if key is None:
            told = self._absent.get(one.key_id) or Unread(one.key_id, row[0], row[0], 0)
            if told.entries == 0 and len(self._absent) == MOST_ABSENT:
                return False
            self._absent[one.key_id] = replace(told, last=row[0], entries=told.entries + 1)
            if self._key_id:
                self._before, self._key, self._key_id = self._key_id, secrets.token_bytes(32), ""
            return True
        chain = key.chain(self._organization)
        if not hmac.compare_digest(hmac.digest(chain, row[2], "sha256"), row[1]):
            return False
        if not self._key_id and self._before == key.id:  # no key was ever put between, as none comes back
            self._forged = next(reversed(self._absent.values()))
            return False
        self._key, self._key_id = chain, key.id
        return True

    def told(self, row: Row | None, *, entries: int, is_elsewhere: bool) -> Broken:
        """What is wrong at the next place: ``row`` is the next there is, ``entries`` the number of the chain's end.

        ``is_elsewhere``: the entry that belongs there stands at a later place.
        """
        place = self.number + 1
        if self._forged is not None:
            said = f"entry {self._forged.first} names key {self._forged.key_id}, between entries of one other key"
            return Broken(Tampering.EDIT, self._forged.first, said)
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


def position(keys: LedgerKeys, row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where the fact of an entry stood on the outbox; None where there is none that is as it was chained."""
    one = None if row["entry"] is None else _genuine(keys, row["org"], row["hash"], row["entry"])
    return None if one is None or one.number != row["number"] else _position(one)


def _genuine(keys: LedgerKeys, organization: str, hash_: bytes, entry: bytes) -> Entry | None:
    """The entry of these bytes; None where they are not as they were chained, or their key is absent."""
    one = _decoded(entry)
    key = None if one is None else keys.of(one.key_id)
    if key is None:
        return None
    return one if hmac.compare_digest(hmac.digest(key.chain(organization), entry, "sha256"), hash_) else None


def _decoded(data: bytes) -> Entry | None:
    try:
        return _entry.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def believed(keys: LedgerKeys | None, organization: str, rows: Iterable[Row]) -> Iterator[tuple[Row, bytes | None]]:
    """Rows with the bodies of their facts; None for what is not as it was chained, or was amiss before.

    Without keys there is nothing to hold an entry against: it is taken as it stands.
    """
    for row in rows:
        one = _decoded(row.entry) if keys is None else _genuine(keys, organization, row.hash, row.entry)
        if one is None or (row.number, row.at, row.name, row.key) != (one.number, one.at, one.name, one.key):
            yield row, None
        else:
            yield row, bytes(one.body) if one.seal in (Seal.WHOLE, Seal.EARLIER) else None


def shown(row: Row) -> dict[str, Any]:
    """An entry as it is told to people and programs; as its columns have it where its bytes cannot be read."""
    one = _decoded(row.entry)
    if one is None:
        said: Any = row
        about = {"id": f"entry-{row.number}", "seal": UNREADABLE, "key_id": None, "prev": None, "body": None}
    else:
        said = one
        about = {"id": one.id, "seal": one.seal.value, "key_id": one.key_id, "prev": one.prev, "body": _body(one.body)}
    return {
        "number": said.number,
        "id": about["id"],
        "at": told_time(said.at),
        "fact": said.name,
        "key": said.key,
        "person": said.person,
        "run_id": said.run_id,
        "deployment_id": said.deployment_id,
        "seal": about["seal"],
        "key_id": about["key_id"],
        "hash": row.hash.hex(),
        "prev": about["prev"],
        "body": about["body"],
    }


def _body(body: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:  # no fact of the platform: a number that no program reads
        return bytes(body).decode()


def told_time(at: datetime) -> str:
    """A moment in UTC as it is told."""
    return at.isoformat().replace("+00:00", "Z")
