"""Order and lift stops, and tell what withholds action now.

An order bumps the epoch of its scope before anything else: that waits for the intents which are being journaled, and
none is journaled under an older decision once the order is committed. The order's time is taken after that lock, by the
database's clock, so it is an argument of nobody.
"""

from __future__ import annotations

from datetime import datetime

from agentos.control.stops import store
from agentos.control.stops.model import (
    EVERYBODY,
    MOST_STOPS,
    Denylist,
    DenylistChanged,
    InForce,
    Stop,
    StopKind,
    StopLifted,
    StopOrdered,
    StopScope,
    StopTargetUnknown,
    StopUnknown,
    Subject,
    TooManyStops,
    Wanted,
    checked,
)
from agentos.kernel import epochs, ids
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors, UnitOfWork


async def in_force(work: UnitOfWork, subject: Subject) -> InForce:
    """The stops that concern a deployment now. Read the epochs first: see kernel/epochs.py."""
    return InForce.about(subject, await store.in_force(work))


async def order(work: UnitOfWork, wanted: Wanted, *, by: str) -> Stop:
    """Set a stop of the organization. It binds from this unit of work's commit on; ordering it again returns the first.

    Raises StopMalformed (Invalid), StopTargetUnknown (NotFound), DeniesEverything or TooManyStops (Conflict).
    """
    wanted = checked(wanted)
    assert wanted.scope is not StopScope.GLOBAL, "see order_everything"
    if not await store.known(work, wanted.scope, wanted.target):
        raise StopTargetUnknown(f"no {wanted.scope} '{wanted.target}'", where="target", then=_WHERE[wanted.scope])
    await epochs.bump(work, epoch_of(wanted.scope, wanted.target))
    return await _add(work, wanted, by)


async def order_everything(doors: Doors, wanted: Wanted, *, organization: OrgId, by: str) -> Stop:
    """Stop every organization; ordering it again returns the first. The fact is told in the one that orders it.

    It has a transaction of its own, as the system role. Raises StopMalformed (Invalid), StopUnconfirmed (Conflict).
    """
    wanted, stop_id = checked(wanted), ids.new("stop")
    fact = StopOrdered(stop_id, wanted.kind.value, wanted.scope.value, "", by)
    async with doors.database.connection("agentos_system") as connection:
        kept = await store.stop_everything(connection, stop_id, wanted, by, organization, fact)
    if kept == stop_id:
        await doors.tell(organization, [fact])
    async with doors.open(organization) as work:
        return await get(work, kept)


async def lift(work: UnitOfWork, stop_id: str, *, by: str, reason: str = "") -> Stop:
    """Lift a stop of the organization: runs that it held go on. Lifting it again changes nothing.

    Raises StopUnknown (NotFound).
    """
    found = await get(work, stop_id)
    assert not found.everybodys, "see lift_everything"
    await epochs.bump(work, epoch_of(found.scope, found.target))
    if await store.lift(work, stop_id, by, reason):
        await work.publish(StopLifted(stop_id, found.kind.value, found.scope.value, found.target, by))
    return await get(work, stop_id)


async def lift_everything(doors: Doors, stop: Stop, *, organization: OrgId, by: str, reason: str = "") -> Stop:
    """Lift a stop of every organization, in a transaction of its own, as the system role."""
    fact = StopLifted(stop.id, stop.kind.value, stop.scope.value, "", by)
    async with doors.database.connection("agentos_system") as connection:
        lifted = await store.lift_everything(connection, stop.id, by, reason, organization, fact)
    if lifted:
        await doors.tell(organization, [fact])
    async with doors.open(organization) as work:
        return await get(work, stop.id)


async def get(work: UnitOfWork, stop_id: str) -> Stop:
    """One stop, the organization's or everybody's. Raises StopUnknown (NotFound)."""
    found = await store.get(work, stop_id)
    if found is None:
        raise StopUnknown(f"no stop '{stop_id[:64]}'", then="See 'agentos stops list'.")
    return found


async def listed(work: UnitOfWork, *, kind: str, scope: str, in_force: bool, before: str, most: int) -> list[Stop]:
    """Stops, newest first, those of every organization among them."""
    return await store.listed(work, kind=kind, scope=scope, in_force=in_force, before=before, most=most)


async def of_everybody(work: UnitOfWork, *, at: datetime) -> list[Stop]:
    """The stops of every organization that were in force at a moment."""
    return await store.of_everybody(work, at)


async def age(work: UnitOfWork, stop_id: str) -> float:
    """The seconds since a stop was ordered, by the database's clock."""
    return await store.age(work, stop_id)


async def denylist(work: UnitOfWork) -> Denylist:
    """The organization's emergency denylist."""
    return _document(await store.in_force(work), await store.denylist_revision(work))


async def replace_denylist(
    work: UnitOfWork, wanted: Denylist, *, seen: int | None, reason: str, confirm: str, by: str
) -> Denylist:
    """Let the denylist hold just these entries: what is new is denied, what is left out is lifted, all at once.

    ``seen``: the revision that it was made from; None replaces whatever is there. Raises what ``order`` does, and
    DenylistChanged (Conflict).
    """
    await epochs.bump(work, epochs.ORGANIZATION)  # and hold it: nobody else changes an entry until this commits
    revision = await store.denylist_revision(work)
    if seen is not None and seen != revision:
        raise DenylistChanged(
            f"the denylist is at revision {revision}, not {seen}", where="revision", then="Read it again."
        )
    asked = [checked(Wanted(StopKind.DENY, *one, reason, confirm)) for one in wanted.entries()]
    stays = {(one.scope, one.target) for one in asked}
    there = {(one.scope, one.target): one for one in await store.in_force(work) if _is_entry(one)}
    for about, stop in there.items():
        if about not in stays and await store.lift(work, stop.id, by, reason):
            await work.publish(StopLifted(stop.id, stop.kind.value, stop.scope.value, stop.target, by))
    for one in asked:
        if (one.scope, one.target) not in there:
            if not await store.known(work, one.scope, one.target):
                raise StopTargetUnknown(f"no {one.scope} '{one.target}'", where="target", then=_WHERE[one.scope])
            await _add(work, one, by)
    return await denylist(work)


_WHERE = {
    StopScope.DEPLOYMENT: "See 'agentos deployments list'.",
    StopScope.CATEGORY: "See the categories in 'agentos agents list'.",
    StopScope.AGENT: "See 'agentos agents list'.",
}


async def _add(work: UnitOfWork, wanted: Wanted, by: str) -> Stop:
    before = await store.same(work, wanted)
    if before is not None:
        return before
    if await store.count(work) >= MOST_STOPS:
        raise TooManyStops(f"an organization has {MOST_STOPS} stops in force at most", then="Lift some, or kill it.")
    stop_id = ids.new("stop")
    await store.add(work, stop_id, wanted, by)
    await work.publish(StopOrdered(stop_id, wanted.kind.value, wanted.scope.value, wanted.target, by))
    return await get(work, stop_id)


def _is_entry(one: Stop) -> bool:
    return one.kind is StopKind.DENY and one.organization != EVERYBODY


def epoch_of(scope: StopScope, target: str) -> str:
    """The epoch that a stop of this scope bumps."""
    match scope:
        case StopScope.GLOBAL:
            return epochs.GLOBAL
        case StopScope.CATEGORY:
            return epochs.category_scope(target)
        case StopScope.DEPLOYMENT:
            return epochs.deployment_scope(target)
        case _:
            return epochs.ORGANIZATION


def _document(stops: list[Stop], revision: int) -> Denylist:
    def of(scope: StopScope) -> tuple[str, ...]:
        return tuple(sorted(one.target for one in stops if _is_entry(one) and one.scope is scope))

    return Denylist(of(StopScope.SKILL), of(StopScope.DOMAIN), of(StopScope.AGENT), of(StopScope.PROVIDER), revision)
