"""How people are reached and recognised in channels, and the organization's Slack workspace.

Whoever is given a Slack user's id can be answered for from Slack, so setting it takes as much as giving out a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Person
from agentos.intake.inbox import store
from agentos.intake.inbox.model import (
    AddressesChanged,
    AddressTaken,
    BadAddress,
    BadWorkspace,
    Channel,
    SlackUserUnknown,
    Workspace,
    WorkspaceConnected,
    WorkspaceDisconnected,
    WorkspaceTaken,
    WorkspaceUnknown,
)
from agentos.kernel.database import Database
from agentos.kernel.ids import PersonId
from agentos.kernel.unit_of_work import UnitOfWork

# What an address must look like before anything is sent to it; whether it exists shows when it is.
FORMS: Final[Mapping[Channel, re.Pattern[str]]] = {
    Channel.EMAIL: re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,188}"),
    Channel.SLACK: re.compile(r"[UW][A-Z0-9]{2,20}"),
}
_LOOKS: Final = {Channel.EMAIL: "name@example.com", Channel.SLACK: "U024BE7LH, a member's id in Slack"}
_TEAM: Final = re.compile(r"T[A-Z0-9]{2,20}")
_SECRET: Final = re.compile(r"secret://[A-Za-z0-9_-]{1,64}")


async def of(work: UnitOfWork, handle: str) -> dict[Channel, str]:
    """A person's addresses by channel. Raises PersonUnknown (NotFound)."""
    person = await identity.person(work, handle)
    return (await store.addresses(work, [person.id])).get(person.id, {})


async def of_all(work: UnitOfWork, people: Sequence[PersonId]) -> dict[PersonId, dict[Channel, str]]:
    """The addresses of these people; who has none is left out."""
    return await store.addresses(work, people)


async def change(work: UnitOfWork, handle: str, given: Mapping[Channel, str | None], *, by: str) -> dict[Channel, str]:
    """Set a person's address in these channels; None or an empty one removes it. Returns all of them.

    Raises PersonUnknown (NotFound), BadAddress (Invalid), AddressTaken (Conflict).
    """
    person = await identity.person(work, handle)
    for channel, address in given.items():
        if address and not FORMS[channel].fullmatch(address):
            raise BadAddress(
                f"this is no address for {channel}", where=channel.value, then=f"Write it as {_LOOKS[channel]}."
            )
        if not await store.set_address(work, person.id, channel, address or ""):
            raise AddressTaken(
                "this Slack user stands for another person already", where=channel.value, then="Remove it there first."
            )
    found = await of(work, handle)
    await work.publish(AddressesChanged(person.id, handle, sorted(found), by))
    return found


async def person_at(work: UnitOfWork, channel: Channel, address: str) -> Person:
    """Who stands behind an address and may act. Raises SlackUserUnknown (Forbidden)."""
    person_id = await store.person_at(work, channel, address)
    found = None if person_id is None else await identity.acting(work, person_id)
    if found is None:
        raise SlackUserUnknown(
            "this Slack user stands for nobody who may act here",
            then="An admin says who they are: agentos people addresses PERSON --slack ID.",
        )
    return found


async def workspace(work: UnitOfWork) -> Workspace:
    """The organization's Slack workspace. Raises WorkspaceUnknown (NotFound)."""
    found = await store.workspace(work)
    if found is None:
        raise WorkspaceUnknown("no Slack workspace is connected", then="See 'agentos inbox slack --help'.")
    return found


async def connect(
    work: UnitOfWork, *, team_id: str, signing_secret: str, token: str, shows: bool, by: str
) -> Workspace:
    """Connect a Slack workspace in place of the one before.

    Raises BadWorkspace (Invalid), WorkspaceTaken (Conflict).
    """
    if not _TEAM.fullmatch(team_id):
        raise BadWorkspace("this is no workspace's id", where="team", then="It looks like T024BE7LD.")
    for name, reference in (("signing_secret", signing_secret), ("token", token)):
        if not _SECRET.fullmatch(reference):
            raise BadWorkspace(
                "the secret is not named by reference", where=name, then="Write secret://NAME; its value stays outside."
            )
    values = {"team_id": team_id, "signing_secret": signing_secret, "token": token, "shows": shows, "by": by}
    if not await store.connect(work, values):
        raise WorkspaceTaken("this Slack workspace is connected to an organization already", where=team_id)
    await work.publish(WorkspaceConnected(team_id, shows, by))
    return await workspace(work)


async def disconnect(work: UnitOfWork, *, by: str) -> None:
    """Take nothing more from the workspace. Where none is connected nothing changes."""
    found = await store.workspace(work)
    if found is not None:
        await store.disconnect(work)
        await work.publish(WorkspaceDisconnected(found.team_id, by))


async def workspace_of(database: Database, team_id: str) -> Workspace | None:
    """The connected workspace of that id, whosever it is; as the system role."""
    if not _TEAM.fullmatch(team_id):
        return None
    async with database.connection("agentos_system") as connection:
        return await store.workspace_of(connection, team_id)
