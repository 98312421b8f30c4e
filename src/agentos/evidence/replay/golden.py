"""Golden runs: recordings as files that are signed, so that whoever replays one knows that it is as it was recorded.

A file is the RFC 8785 form of its document and a newline, signed by HMAC-SHA256 over that form without the signature.
No other bytes are taken for it: neither other data, nor the same data written otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentos.evidence.replay.plans import Outcome
from agentos.evidence.replay.playback import play
from agentos.evidence.replay.recording import Recording
from agentos.kernel.canonical import NotCanonical, canonical, digest_bytes
from agentos.kernel.errors import Conflict, Invalid, Unavailable

KIND: Final = "agentos/golden"
ALGORITHM: Final = "HMAC-SHA256"
MEMBER: Final = "signature"
MOST_BYTES: Final = 64 * 1024 * 1024  # of a file; a run of 500 steps with results of 100 kB
LEAST_KEY: Final = 16  # characters; shorter ones are guessed

# Signs the samples that come with the platform. It is public, so anybody can sign with it: what it signs is taken only
# where it is one of the samples, by the SHA-256 of its bytes.
SAMPLE_KEY: Final = "the public key of AgentOS's samples"
SAMPLES: Final = frozenset(
    {
        "sha256:9d42b4befd4584147400d4a503a753d3fecff6a28cb2c019a641397291f8010c",  # workflow_data_extraction.json
    }
)


class GoldenUnreadable(Invalid):
    """A golden file that cannot be read, or is none."""

    code = "golden_unreadable"


class GoldenTampered(Invalid):
    """A golden file is not as it was signed: changed, cut off, or written otherwise."""

    code = "golden_tampered"


class GoldenKeyUnusable(Unavailable):
    """The key that golden files are signed with is not set, or too short to be one."""

    code = "golden_key_unusable"


class GoldenForeignKey(Invalid):
    """A golden file was signed with another key, or with the public one without being a sample."""

    code = "golden_foreign_key"


class GoldenDiverged(Conflict):
    """A golden run no longer comes to what was recorded."""

    code = "golden_diverged"


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden file that was checked."""

    recording: Recording
    content_hash: str
    key_id: str
    is_sample: bool  # one of those that come with the platform

    async def replay(self) -> Outcome:
        """Execute the run again. Raises GoldenDiverged (Conflict) naming the first step and field that differ."""
        outcome = await play(self.recording)
        parted = outcome.divergence
        if parted is not None or outcome.content.content_hash() != self.content_hash:
            where = "" if parted is None else f"step {parted.step}, {parted.field}"
            raise GoldenDiverged(
                "the run no longer comes to what was recorded",
                where=where,
                then="Compare the step's row with what this release makes of it, then record it anew if it is right.",
                divergence=None if parted is None else parted.document(),
            )
        return outcome


def key_id(key: str) -> str:
    """What a key is known by. Raises GoldenKeyUnusable (Unavailable)."""
    if len(key) < LEAST_KEY:
        raise GoldenKeyUnusable(
            f"golden files are signed with a key of {LEAST_KEY} characters at least" if key else "no key is set",
            then="Set AGENTOS_GOLDEN_KEY, for example to what 'openssl rand -hex 32' prints.",
        )
    return digest_bytes(b"agentos golden key\n" + key.encode())[:23]


def written(recording: Recording, key: str) -> bytes:
    """The bytes of a recording's golden file. Raises GoldenKeyUnusable, NotCanonical (Invalid)."""
    document = {"kind": KIND, "content_hash": recording.content.content_hash(), "recording": recording.document()}
    signature = {"algorithm": ALGORITHM, "key_id": key_id(key), "value": _sealed(document, key)}
    return canonical({**document, MEMBER: signature}) + b"\n"


def read(data: bytes, key: str = "", *, where: str = "") -> Golden:
    """The golden run of these bytes, after a look at their form, their signature and their hash.

    ``key``: the only one that is accepted; without one, only the samples that come with the platform are. Raises
    GoldenUnreadable, GoldenTampered, GoldenForeignKey (Invalid), GoldenKeyUnusable (Unavailable).
    """
    document = _parsed(data, where)
    signature = document.get(MEMBER)
    if not isinstance(signature, Mapping) or set(signature) != {"algorithm", "key_id", "value"}:
        raise GoldenTampered("it has no signature", where=where, then=_AGAIN)
    if signature["algorithm"] != ALGORITHM:
        raise GoldenTampered("it is signed by another algorithm", where=where, then=_AGAIN)
    if key == SAMPLE_KEY:
        raise GoldenKeyUnusable("the key is public", then="Set AGENTOS_GOLDEN_KEY to one that only you know.")
    accepted = key or SAMPLE_KEY
    named = key_id(accepted)
    if signature["key_id"] != named:
        if not key and signature["key_id"] != key_id(SAMPLE_KEY):
            raise GoldenKeyUnusable(
                "the key that it was signed with is not set", where=where, then="Set AGENTOS_GOLDEN_KEY to it."
            )
        raise GoldenForeignKey("it was signed with another key", where=where, then="Check AGENTOS_GOLDEN_KEY.")
    told = {name: value for name, value in document.items() if name != MEMBER}
    try:
        sealed = _sealed(told, accepted)
        whole = canonical(document) + b"\n"
    except NotCanonical as error:
        raise GoldenTampered(f"it holds what was never written: {error}", where=where, then=_AGAIN) from None
    if not hmac.compare_digest(str(signature["value"]).encode(), sealed.encode()):
        raise GoldenTampered("its signature is not that of its content", where=where, then=_AGAIN)
    if whole != data:
        raise GoldenTampered("it is not written as it was signed", where=where, then=_AGAIN)
    if not key and digest_bytes(data) not in SAMPLES:
        raise GoldenForeignKey(
            "it is signed with the public key of the samples, and is none of them: anybody could have made it",
            where=where,
            then="Sign it with a key of your own, and set AGENTOS_GOLDEN_KEY.",
        )
    if told.get("kind") != KIND:
        raise GoldenUnreadable("this is no golden run", where=where, then=_AGAIN)
    recording = Recording.read(told["recording"])
    content_hash = recording.content.content_hash()
    if content_hash != told.get("content_hash"):
        raise GoldenTampered("its journal does not hash to what it says", where=where, then=_AGAIN)
    return Golden(recording, content_hash, named, accepted == SAMPLE_KEY)


def load(file: Path, key: str = "") -> Golden:
    """The golden run of a file. Raises as ``read``."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise GoldenUnreadable(f"the file is over {MOST_BYTES} bytes", where=str(file))
        data = file.read_bytes()
    except OSError as error:
        raise GoldenUnreadable(
            f"the file cannot be read: {error.strerror or type(error).__name__}", where=str(file)
        ) from None
    return read(data, key, where=str(file))


_AGAIN: Final = "Take it from where it was recorded, or record the run again: agentos golden record RUN."


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        what = "it is cut off" if _is_cut(data) else f"it is no JSON: {str(error)[:100]}"
        raise GoldenTampered(what, where=where, then=_AGAIN) from None
    if not isinstance(document, dict):
        raise GoldenUnreadable("this is no golden run", where=where, then=_AGAIN)
    return document


def _is_cut(data: bytes) -> bool:
    return not data.rstrip().endswith(b"}")


def _sealed(document: Mapping[str, Any], key: str) -> str:
    return hmac.new(key.encode(), canonical(document), hashlib.sha256).hexdigest()
