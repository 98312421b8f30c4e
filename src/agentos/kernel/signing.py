"""Documents that prove offline who wrote them: Ed25519 over their RFC 8785 form, the public key within.

A document is checked with nothing but itself: then it is as somebody with the key wrote it. That this somebody was the
platform is known by its public key, which is fetched once (GET /api/v1/signing-key), kept, and pinned when checking. A
document says what it is in its own fields; whoever checks one looks at those, as one key signs documents of many kinds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agentos.kernel.canonical import NotCanonical, canonical, digest_bytes
from agentos.kernel.errors import Invalid, Unavailable
from agentos.kernel.keyfiles import made_once

ALGORITHM: Final = "Ed25519"
MEMBER: Final = "signature"  # of a signed document
_MEMBERS: Final = frozenset({"algorithm", "key_id", "public_key", "value"})


class SigningKeyMissing(Unavailable):
    """The private key that signs documents is not set, cannot be read, or lies open to other users."""

    code = "signing_key_missing"


class NotSigned(Invalid):
    """A document has no signature of ours that could be checked."""

    code = "not_signed"


class SignatureWrong(Invalid):
    """A document was changed after it was signed, or its signature was made up."""

    code = "signature_wrong"


class ForeignKey(Invalid):
    """A document was signed by another key than the one that is pinned."""

    code = "foreign_key"


class Signer:
    """Signs documents with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes_raw()
        self.public_key = base64.b64encode(raw).decode()
        self.key_id = digest_bytes(raw)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The signer with the key of this file. Raises SigningKeyMissing (Unavailable)."""
        file, then = Path(path), "Set AGENTOS_SIGNING_KEY to a file of this user's alone; 'agentos up' makes one."
        if not str(path):
            raise SigningKeyMissing("there is no key to sign with", then=then)
        try:
            if file.stat().st_mode & 0o077:
                raise SigningKeyMissing("the signing key is open to other users", where=str(file), then=then)
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise SigningKeyMissing(f"the signing key cannot be read: {said}", where=str(file), then=then) from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyMissing("this is no Ed25519 key as PEM", where=str(file), then=then)
        return cls(key)

    def sign(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with its signature, over everything but the signature. Raises NotCanonical (Invalid)."""
        told = {name: value for name, value in document.items() if name != MEMBER}
        value = base64.b64encode(self._key.sign(canonical(told))).decode()
        signature = {"algorithm": ALGORITHM, "key_id": self.key_id, "public_key": self.public_key, "value": value}
        return {**told, MEMBER: signature}

    def shown(self) -> dict[str, str]:
        """What others need to know the platform's documents by."""
        return {"algorithm": ALGORITHM, "key_id": self.key_id, "public_key": self.public_key}


def verify(document: Mapping[str, Any], *, pinned: str | None = None) -> None:
    """Return when the document is as it was signed and, where a public key is pinned, by that key.

    ``pinned``: the ``public_key`` that the platform shows. Raises NotSigned, SignatureWrong or ForeignKey (Invalid).
    """
    signature = document.get(MEMBER) if isinstance(document, Mapping) else None
    if not isinstance(signature, Mapping) or set(signature) != _MEMBERS or signature["algorithm"] != ALGORITHM:
        raise NotSigned("the document has no Ed25519 signature", where=MEMBER, then="Ask for it as it was issued.")
    if pinned is not None and signature["public_key"] != pinned:
        raise ForeignKey(
            "the document was signed by another key than the one pinned",
            where=f"{MEMBER}.public_key",
            then="Compare with GET /api/v1/signing-key of the platform that is said to have issued it.",
        )
    wrong = SignatureWrong("the document is not as it was signed", where=MEMBER, then="Ask for it as it was issued.")
    try:
        public = base64.b64decode(signature["public_key"], validate=True)
        value = base64.b64decode(signature["value"], validate=True)
        told = canonical({name: part for name, part in document.items() if name != MEMBER})
        if signature["key_id"] != digest_bytes(public):
            raise wrong
        Ed25519PublicKey.from_public_bytes(public).verify(value, told)
    except (binascii.Error, ValueError, TypeError, NotCanonical, InvalidSignature):
        raise wrong from None


def make_key(path: Path) -> bool:
    """Make sure that the file (0600) holds a key. True when it was made; one that is there is never replaced."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made_once(path, pem)
