"""The key that facts are sealed and the ledger is chained with. It lies in a file of one user's, never in the database.

Below it stand those that were used before. Three keys are derived from each. That of seals goes along with every
connection, so that PostgreSQL seals a fact in the very statement that writes it, also where a function does; who owns
the server could catch it there. Those of chains and anchors never leave the platform's processes: what is chained
cannot be forged with what the server knows.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import structlog

from agentos.kernel.errors import Conflict, Unavailable
from agentos.kernel.keyfiles import alone, made_once, replaced

log = structlog.get_logger(__name__)

BYTES: Final = 32
_WAITS: Final = "+"  # before a key that is known and not used yet
_BLOCK: Final = 64  # of SHA-256, to which HMAC pads its key
_THEN: Final = "Set AGENTOS_LEDGER_KEY to a file of this user's alone; 'agentos up' makes one."


class LedgerKeyMissing(Unavailable):
    """The key that seals facts and chains the ledger is not set, cannot be read, or lies open to other users."""

    code = "ledger_key_missing"


class LedgerKeyLost(Conflict):
    """The key that the ledger's chains were made with is not there; another could not go on with them."""

    code = "ledger_key_lost"


class LedgerKeyNotAdded(Conflict):
    """No key of the ledger's file waits to be used."""

    code = "ledger_key_not_added"


class LedgerKey:
    """What is derived from one key. Its id tells it from others, and nothing of it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = self._derived("keys are told apart").hex()[:16]
        self.seals = self._derived("facts are sealed")
        self.anchors = self._derived("heads are anchored")

    def chain(self, organization: str) -> bytes:
        """The key of an organization's chain: an entry of one is none of another."""
        return self._derived(f"entries are chained of {organization}")

    def began(self, transaction: int) -> bytes:
        """What proves that the ledger began with this transaction."""
        return hmac.digest(self._derived("the ledger began"), str(transaction).encode(), "sha256")

    def pads(self) -> str:
        """The key of seals as PostgreSQL is told it: HMAC's inner and outer block, as hex."""
        padded = self.seals.ljust(_BLOCK, b"\0")
        return bytes(byte ^ 0x36 for byte in padded).hex() + bytes(byte ^ 0x5C for byte in padded).hex()

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, purpose.encode(), "sha256")


class LedgerKeys:
    """The keys of a file, one a line: the first is used; those behind it still verify what was made with them.

    One with a plus before it is known and not used yet, so that every process can verify it before any uses it. A key
    that comes while processes run is known to them as soon as they look at the file again; what their connections seal
    with stays as it was until they start anew.
    """

    def __init__(self, *keys: LedgerKey) -> None:
        self._keys = keys
        self._path: Path | None = None
        self._read: tuple[int, int, int] | None = None  # which file was read
        self._is_unread = False  # and whether what is there now could not be

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The keys of this file. Raises LedgerKeyMissing (Unavailable)."""
        if not str(path):
            raise LedgerKeyMissing("there is no key for the ledger", then=_THEN)
        keys = cls()
        keys._path = Path(path)
        keys._keys, keys._read = _read_keys(keys._path)
        return keys

    @property
    def now(self) -> LedgerKey:
        """The one that is used."""
        return self._keys[0]

    @property
    def every(self) -> tuple[LedgerKey, ...]:
        """All of them: the one that is used, that which waits, and the older ones."""
        return self._keys

    def of(self, key_id: str) -> LedgerKey | None:
        """The key of this id; None where it is absent. Without an id it is the oldest, from before keys had one."""
        if not key_id:
            return self._keys[-1]
        return next((one for one in self._keys if one.id == key_id), None)

    def look_again(self) -> bool:
        """Read the file again if it is another one by now; whether there are other keys. One that is gone is not."""
        if self._path is None:
            return False
        try:
            if _stamp(self._path) == self._read:
                return False
            keys, self._read = _read_keys(self._path)
        except (OSError, LedgerKeyMissing) as error:  # what was read is as good as it was, until the next start
            if not self._is_unread:
                said = error.what if isinstance(error, LedgerKeyMissing) else error.strerror
                log.error("ledger_key_unreadable", file=str(self._path), error=said)
            self._is_unread = True
            return False
        self._is_unread = False
        is_new = [one.id for one in keys] != [one.id for one in self._keys]
        self._keys = keys
        return is_new


def make_key(path: Path) -> bool:
    """Make sure that the file (0600) holds a key. True when it was made; one that is there is never replaced."""
    return made_once(path, _line())


def rotate_key(path: Path) -> LedgerKeys:
    """Put a new key to those of the file, to be known and not used yet; one that waits already stays the one.

    Raises LedgerKeyMissing (Unavailable).
    """

    def add(lines: list[str]) -> list[str]:
        is_there = any(line.startswith(_WAITS) for line in lines)
        return lines if is_there else [_WAITS + _line().decode().strip(), *lines]

    return _changed(path, add)


def promote_key(path: Path) -> LedgerKeys:
    """Use the key that waits. Raises LedgerKeyNotAdded (Conflict), LedgerKeyMissing (Unavailable)."""

    def use(lines: list[str]) -> list[str]:
        waiting = [line for line in lines if line.startswith(_WAITS)]
        if not waiting:
            raise LedgerKeyNotAdded(
                "no key waits to be used",
                where=str(path),
                then="Run 'agentos audit rotate-key' without --promote first.",
            )
        return [*(line.removeprefix(_WAITS) for line in waiting), *(line for line in lines if line not in waiting)]

    return _changed(path, use)


def _changed(path: Path, change: Callable[[list[str]], list[str]]) -> LedgerKeys:
    try:
        with alone(path):
            LedgerKeys.load(path)
            replaced(path, "".join(f"{line}\n" for line in change(path.read_text().split())).encode())
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise LedgerKeyMissing(f"the ledger's key cannot be changed: {said}", where=str(path), then=_THEN) from None
    return LedgerKeys.load(path)


def _line() -> bytes:
    return secrets.token_hex(BYTES).encode() + b"\n"


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_keys(file: Path) -> tuple[tuple[LedgerKey, ...], tuple[int, int, int]]:
    try:
        if file.stat().st_mode & 0o077:
            raise LedgerKeyMissing("the ledger's key is open to other users", where=str(file), then=_THEN)
        stamp = _stamp(file)
        lines = file.read_text().split()
        waiting = [line for line in lines if line.startswith(_WAITS)]
        used = [line for line in lines if not line.startswith(_WAITS)]
        found = [bytes.fromhex(line.removeprefix(_WAITS)) for line in (*used[:1], *waiting, *used[1:])] if used else []
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise LedgerKeyMissing(f"the ledger's key cannot be read: {said}", where=str(file), then=_THEN) from None
    except ValueError:
        found = []
    if not found or any(len(secret) != BYTES for secret in found):
        raise LedgerKeyMissing(f"these are no keys of {BYTES} bytes as hex, one a line", where=str(file), then=_THEN)
    return tuple(LedgerKey(secret) for secret in found), stamp
