"""The registry as one signed file: written, read back, and compared with what is there.

The signature covers every row, so a file that was changed or cut off is refused before anything is compared. A row that
is not as it was registered is never exported: that would sign the damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentos.kernel.canonical import NotCanonical
from agentos.kernel.signing import Signer
from agentos.kernel.signing import verify as verify_signature
from agentos.runtime.skills.model import Contract, Registered, RegistryCorrupt, RegistryFileInvalid

KIND: Final = "agentos/skills-registry"
FORMAT: Final = 1
_MEMBERS: Final = frozenset({"name", "version", "digest", "contract", "seal", "first_seen", "first_service"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One skill that is not the same in a file and in the platform."""

    name: str
    version: str
    differs: str


def export(rows: Sequence[Registered], signer: Signer, *, at: datetime) -> dict[str, Any]:
    """Every row as a signed document. Raises RegistryCorrupt (Conflict) naming rows that are not as registered."""
    corrupt = [f"{one.name}@{one.version}" for one in rows if not one.intact]
    if corrupt:
        raise RegistryCorrupt(
            f"the registry's rows of {', '.join(corrupt)[:500]} are not as they were registered",
            then="Put them back from an earlier file with 'agentos registry restore FILE'.",
        )
    skills = [
        {
            "name": one.name,
            "version": one.version,
            "digest": one.digest,
            "contract": one.document,
            "seal": one.seal,
            "first_seen": one.first_seen.isoformat(),
            "first_service": one.first_service,
        }
        for one in rows
    ]
    return signer.sign({"kind": KIND, "format": FORMAT, "exported_at": at.isoformat(), "skills": skills})


def read(document: Mapping[str, Any], *, pinned: str | None = None) -> list[Registered]:
    """The rows of a file, when it is whole and, where a public key is pinned, signed by that key.

    Raises NotSigned, SignatureWrong, ForeignKey or RegistryFileInvalid (Invalid).
    """
    verify_signature(document, pinned=pinned)
    if document.get("kind") != KIND or document.get("format") != FORMAT:
        raise RegistryFileInvalid(
            f"the document is no {KIND} of format {FORMAT}", then="See 'agentos registry export'."
        )
    try:
        rows = [_row(one) for one in document["skills"]]
    except (KeyError, TypeError, ValueError, AttributeError, NotCanonical) as error:
        raise RegistryFileInvalid(f"a row of the file is none: {type(error).__name__}", where="skills") from None
    if len({(one.name, one.version) for one in rows}) != len(rows):
        raise RegistryFileInvalid("a skill is in the file twice", where="skills")
    return rows


def differences(file: Iterable[Registered], there: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What differs between a file and the listing of skills (``GET /api/v1/skills``), by name and version."""
    known = {(one["name"], one["version"]): one for one in there}
    found = []
    for row in file:
        one = known.pop((row.name, row.version), None)
        if one is None:
            found.append(Finding(row.name, row.version, "missing in the registry"))
            continue
        if one["state"] == "corrupt":
            found.append(Finding(row.name, row.version, "the registry's row is not as it was registered"))
        elif one["digest"] != row.digest:
            found.append(Finding(row.name, row.version, f"registered with another digest, {one['digest'][:19]}"))
        elif one["seal"] != row.seal:
            found.append(Finding(row.name, row.version, "registered with another contract"))
        if one["loaded"] is not None and one["loaded"] != row.digest:
            found.append(Finding(row.name, row.version, f"loaded with another digest, {one['loaded'][:19]}"))
    found += [Finding(name, version, "not in the file") for name, version in known]
    return sorted(found, key=lambda one: (one.name, one.version))


def _row(one: Mapping[str, Any]) -> Registered:
    if set(one) != _MEMBERS:
        raise ValueError
    row = Registered(
        name=one["name"],
        version=one["version"],
        digest=one["digest"],
        document=one["contract"],
        seal=one["seal"],
        first_seen=datetime.fromisoformat(one["first_seen"]),
        first_service=one["first_service"],
    )
    if not row.intact or row.first_seen.tzinfo is None or not isinstance(row.first_service, str):
        raise ValueError
    Contract.read(row.document)
    return row
