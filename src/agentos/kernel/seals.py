"""The key that facts are sealed and the ledger is chained with. It lies in a file of one user's, never in the database.

Three keys are derived from it. That of seals goes along with every connection, so that PostgreSQL seals a fact in the
very statement that writes it, also where a function does; who owns the server could catch it there. Those of chains and
anchors never leave the platform's processes: what is chained cannot be forged with what the server knows.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final, Self

from agentos.kernel.errors import Conflict, Unavailable
from agentos.kernel.keyfiles import made_once

BYTES: Final = 32
_BLOCK: Final = 64  # of SHA-256, to which HMAC pads its key


class LedgerKeyMissing(Unavailable):
    """The key that seals facts and chains the ledger is not set, cannot be read, or lies open to other users."""

    code = "ledger_key_missing"


class LedgerKeyLost(Conflict):
    """The key that the ledger's chains were made with is not there; another could not go on with them."""

    code = "ledger_key_lost"


class LedgerKey:
    """What is derived from the key of one file."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.seals = self._derived("facts are sealed")
        self.anchors = self._derived("heads are anchored")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The key of this file. Raises LedgerKeyMissing (Unavailable)."""
        file, then = Path(path), "Set AGENTOS_LEDGER_KEY to a file of this user's alone; 'agentos up' makes one."
        if not str(path):
            raise LedgerKeyMissing("there is no key for the ledger", then=then)
        try:
            if file.stat().st_mode & 0o077:
                raise LedgerKeyMissing("the ledger's key is open to other users", where=str(file), then=then)
            secret = bytes.fromhex(file.read_text().strip())
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise LedgerKeyMissing(f"the ledger's key cannot be read: {said}", where=str(file), then=then) from None
        except ValueError:
            secret = b""
        if len(secret) != BYTES:
            raise LedgerKeyMissing(f"this is no key of {BYTES} bytes as hex", where=str(file), then=then)
        return cls(secret)

    def chain(self, organization: str) -> bytes:
        """The key of an organization's chain: an entry of one is none of another."""
        return self._derived(f"entries are chained of {organization}")

    def pads(self) -> str:
        """The key of seals as PostgreSQL is told it: HMAC's inner and outer block, as hex."""
        padded = self.seals.ljust(_BLOCK, b"\0")
        return bytes(byte ^ 0x36 for byte in padded).hex() + bytes(byte ^ 0x5C for byte in padded).hex()

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._secret, purpose.encode(), "sha256")


def make_key(path: Path) -> bool:
    """Make sure that the file (0600) holds a key. True when it was made; one that is there is never replaced."""
    return made_once(path, secrets.token_hex(BYTES).encode() + b"\n")
