"""List effects, and prove what a stop let through: nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentos.control.stops import service as stops
from agentos.control.stops.model import StopKind
from agentos.evidence.effects import model, store
from agentos.evidence.effects.model import Effect, NothingToProve, Position, Proof, Wanted
from agentos.kernel.signing import verify
from agentos.kernel.unit_of_work import UnitOfWork

LOOK: Final = 20_000  # effects that one page looks at: a tenth of a second, and a day of an organization at its busiest


async def proof(work: UnitOfWork, stop_id: str) -> Proof:
    """What a kill or a pause let through of this organization's effects, up to now or to its lift.

    Order is that of commits, as the stop's horizons saw them: see migrations/versions/0009_stops.sql. Raises
    StopUnknown or NothingToProve (NotFound).
    """
    stop = await stops.get(work, stop_id)
    if stop.kind not in (StopKind.KILL, StopKind.PAUSE):
        raise NothingToProve(f"a {stop.kind} withholds no more than some effects", where=stop_id)
    found = await store.proof(work, stop_id)
    assert found is not None
    return found


def check(document: Mapping[str, Any], *, pinned: str | None = None) -> dict[str, Any]:
    """What a proof says, when it is as it was signed and agrees with itself. Needs nothing but the document.

    ``pinned``: the public key that it must be signed by. Raises NotSigned, SignatureWrong, ForeignKey or ProofRefused
    (Invalid), EffectAfterStop (Conflict).
    """
    verify(document, pinned=pinned)
    return model.check(document)


async def listed(
    work: UnitOfWork, wanted: Wanted, *, before: Position | None, most: int
) -> tuple[list[Effect], Position | None]:
    """Effects that were committed within a time, newest first, and where the next page begins, if there is more.

    A page looks at ``LOOK`` effects of the time at most, so it may hold fewer than there is room for, or none.
    """
    found, ended = await store.listed(
        work,
        wanted,
        before or Position(wanted.until, "~", 0),
        look=most + 1 if wanted.all_of_them else LOOK,
        most=most + 1,
    )
    if len(found) > most:
        last = found[most - 1]
        return found[:most], Position(last.committed_at, last.run_id, last.seq)
    return found, ended
