"""The key that facts are sealed and the ledger is chained with. It lies in a file of one user's, never in the database.

Below it stand those that were used before. Three keys are derived from each. That of seals goes along with every
connection, so that PostgreSQL seals a fact in the very statement that writes it, also where a function does; who owns
the server could catch it there. Those of chains and anchors never leave the platform's processes: what is chained
cannot be forged with what the server knows.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final, Self

from agentos.kernel.errors import Conflict, Unavailable
from agentos.kernel.keyfiles import alone, made_once, replaced

BYTES: Final = 32
_BLOCK: Final = 64  # of SHA-256, to which HMAC pads its key
_THEN: Final = "Set AGENTOS_LEDGER_KEY to a file of this user's alone; 'agentos up' makes one."


class LedgerKeyMissing(Unavailable):
    """The key that seals facts and chains the ledger is not set, cannot be read, or lies open to other users."""

    code = "ledger_key_missing"


class LedgerKeyLost(Conflict):
    """The key that the ledger's chains were made with is not there; another could not go on with them."""

    code = "ledger_key_lost"


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

    A key that is put before them while processes run is used by them as soon as they look at the file again; what their
    connections seal with stays as it was until they start anew.
    """

    def __init__(self, *keys: LedgerKey) -> None:
        self._keys = keys
        self._path: Path | None = None
        self._read: tuple[int, int, int] | None = None  # which file was read

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
        """All of them, the newest first."""
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
        except (OSError, LedgerKeyMissing):  # what was read is as good as it was
            return False
        is_new = [one.id for one in keys] != [one.id for one in self._keys]
        self._keys = keys
        return is_new


def make_key(path: Path) -> bool:
    """Make sure that the file (0600) holds a key. True when it was made; one that is there is never replaced."""
    return made_once(path, _line())


def rotate_key(path: Path) -> LedgerKeys:
    """Put a new key before those of the file. Raises LedgerKeyMissing (Unavailable)."""
    try:
        with alone(path):
            LedgerKeys.load(path)
            replaced(path, _line() + path.read_bytes())
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
        found = [bytes.fromhex(line) for line in file.read_text().split()]
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise LedgerKeyMissing(f"the ledger's key cannot be read: {said}", where=str(file), then=_THEN) from None
    except ValueError:
        found = []
    if not found or any(len(secret) != BYTES for secret in found):
        raise LedgerKeyMissing(f"these are no keys of {BYTES} bytes as hex, one a line", where=str(file), then=_THEN)
    return tuple(LedgerKey(secret) for secret in found), stamp
