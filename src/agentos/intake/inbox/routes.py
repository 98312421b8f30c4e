"""The HTTP door to the inbox: threads, messages, people's addresses, and what Slack sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.intake.identity.model import Caller, NotAllowed, Permission, SecretRead
from agentos.intake.identity.routes import IdentityAdmin, Reader, address_of, may, refused
from agentos.intake.inbox import addresses, service, slack
from agentos.intake.inbox.model import (
    MOST_TEXT,
    MOST_TITLE,
    Channel,
    Message,
    SlackNotReady,
    SlackRefused,
    SlackUserUnknown,
    Thread,
    ThreadUnknown,
    Workspace,
    WorkspaceUnknown,
)
from agentos.intake.inbox.ports import Readers
from agentos.intake.triggers.routes import SecretDep
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError, NotFound
from agentos.kernel.http import BodyTooLarge, Cursor, DoorsDep, Limit, page, position_of
from agentos.kernel.ids import KeyId, OrgId
from agentos.kernel.openapi import lets_in

router = APIRouter(prefix="/api/v1", tags=["inbox"])

Writer = Annotated[Caller, may(Permission.WRITE_INBOX)]
_SECRET: Final = "secret://"  # noqa: S105  # how a secret is named, not one


async def readers(request: Request) -> Readers:
    """Whoever reads what is written in threads about runs."""
    found: Readers = request.app.state.readers
    return found


ReadersDep = Annotated[Readers, Depends(readers)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]


class NewThread(_Body):
    """A thread that is to be, with its first message."""

    title: str = Field(min_length=1, max_length=MOST_TITLE)
    text: Text
    about: str = Field("", max_length=40, description="A run's id, or nothing.")


class NewMessage(_Body):
    """What somebody writes. 'approve 42 because …' answers what thread 42 asks."""

    text: Text


class Addresses(_Body):
    """Where a person can be reached; an empty address removes it, one that is left out stays."""

    email: str | None = Field(None, max_length=254)
    slack: str | None = Field(
        None, max_length=22, description="A member's id: whoever it is can answer as this person."
    )


class NewWorkspace(_Body):
    """A Slack workspace whose members may answer."""

    team: str = Field(max_length=22)
    signing_secret: str = Field(max_length=73, description="By reference: secret://NAME.")
    token: str = Field(max_length=73, description="Of the bot, by reference: secret://NAME.")
    shows: bool = Field(False, description="Whether arguments may be shown there, and so be answered there.")


@router.get("/inbox/threads")
async def list_threads(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    state: Annotated[str, Query(pattern="^(open|closed|all)$")] = "all",
    about: Annotated[str, Query(max_length=80, description="An approval's or a run's id, or budget:SUBJECT.")] = "",
) -> dict[str, Any]:
    """The threads of your organization, newest first."""
    wanted = "" if state == "all" else state
    async with doors.open(caller.organization) as work:
        found = await service.listed(work, state=wanted, about=about, before=position_of(cursor), most=limit + 1)
    return page([_thread(one) for one in found], limit, by="number")


@router.post("/inbox/threads", status_code=201)
async def open_thread(
    body: NewThread, request: Request, caller: Writer, doors: DoorsDep, readers: ReadersDep
) -> dict[str, Any]:
    """Open a thread with a first message. A thread about this run is opened once, and the run reads what is in it."""
    try:
        async with doors.open(caller.organization) as work:
            thread = await service.open_thread(
                work, title=body.title, about=body.about, by=caller.handle, readers=readers
            )
            message = await service.write(work, thread.id, body.text, caller=caller, readers=readers)
    except NotAllowed as error:
        await _refuse(request, caller, error)
    return _thread(thread) | {"message": _message(message)}


@router.get("/inbox/threads/{thread_id}")
async def show_thread(thread_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One thread, by its id or its number."""
    async with doors.open(caller.organization) as work:
        return _thread(await service.get(work, thread_id))


@router.get("/inbox/threads/{thread_id}/messages")
async def list_messages(
    thread_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """A thread's messages, oldest first."""
    async with doors.open(caller.organization) as work:
        thread = await service.get(work, thread_id)
        found = await service.messages(work, thread.id, after=position_of(cursor), most=limit + 1)
    return page([_message(one) for one in found], limit)


@router.post("/inbox/threads/{thread_id}/messages", status_code=201)
async def write_message(
    thread_id: str, body: NewMessage, request: Request, caller: Writer, doors: DoorsDep, readers: ReadersDep
) -> dict[str, Any]:
    """Write in a thread; in one about a run, to the run. An answer's outcome follows as a message of the platform."""
    try:
        async with doors.open(caller.organization) as work:
            return _message(await service.write(work, thread_id, body.text, caller=caller, readers=readers))
    except NotAllowed as error:
        await _refuse(request, caller, error)


async def _refuse(request: Request, caller: Caller, error: NotAllowed) -> NoReturn:
    await refused(request, caller.organization, _reason(error), caller.key_id, caller.handle)
    raise error


def _reason(error: NotAllowed) -> str:
    return f"{error.code}:{error.extra['permission']}"


@router.get("/people/{handle}/addresses")
async def show_addresses(handle: str, caller: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Where a person can be reached."""
    async with doors.open(caller.organization) as work:
        return _addresses(handle, await addresses.of(work, handle))


@router.patch("/people/{handle}/addresses")
async def change_addresses(handle: str, body: Addresses, caller: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Say where a person can be reached, and which Slack user answers as them."""
    given = {Channel(name): address for name, address in body.model_dump(exclude_unset=True).items()}
    async with doors.open(caller.organization) as work:
        return _addresses(handle, await addresses.change(work, handle, given, by=caller.handle))


@router.get("/inbox/slack/workspace")
async def show_workspace(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """The connected Slack workspace, if there is one; never its secrets."""
    async with doors.open(caller.organization) as work:
        try:
            return {"workspace": _workspace(await addresses.workspace(work))}
        except WorkspaceUnknown:
            return {"workspace": None}


@router.put("/inbox/slack/workspace")
async def connect_workspace(body: NewWorkspace, caller: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Connect a Slack workspace in place of the one before."""
    async with doors.open(caller.organization) as work:
        made = await addresses.connect(
            work,
            team_id=body.team,
            signing_secret=body.signing_secret,
            token=body.token,
            shows=body.shows,
            by=caller.handle,
        )
    return {"workspace": _workspace(made)}


@router.delete("/inbox/slack/workspace", status_code=204)
async def disconnect_workspace(caller: IdentityAdmin, doors: DoorsDep) -> None:
    """Take nothing more from the connected Slack workspace."""
    async with doors.open(caller.organization) as work:
        await addresses.disconnect(work, by=caller.handle)


@router.post("/inbox/slack", openapi_extra=lets_in(401, 403, 429, 503, body=(slack.MEDIA_TYPE,)))
async def take_slack_action(request: Request, doors: DoorsDep, secret: SecretDep) -> dict[str, Any]:
    """Take a button that was pressed in Slack, signed by Slack. The same press is an answer once."""
    body = await request.body()
    if len(body) > slack.MOST_BYTES:
        raise BodyTooLarge(f"the body is over {slack.MOST_BYTES} bytes", then="Slack sends less.")
    action = slack.read_action(body)
    workspace = await addresses.workspace_of(doors.database, action.team_id)
    call = _Call(request, action, None if workspace is None else workspace.organization)
    if workspace is None:
        await call.refuse("slack_workspace_unknown", _not_signed())
    try:
        signing_secret = secret(workspace.signing_secret.removeprefix(_SECRET))
    except NotFound:
        raise SlackNotReady("the workspace's signing secret is not set", then="Its admin sets it.") from None
    if not slack.signed(signing_secret, request.headers, body, at=now()):
        is_late = slack.late(request.headers, at=now())
        await call.refuse("slack_late" if is_late else "slack_signature", _not_signed())
    request.app.state.rates.take(f"slack {workspace.organization} {action.user_id}")
    if action.approved is None:  # a link was followed; Slack tells of that, too
        return {"message_id": None}
    try:
        async with doors.open(workspace.organization) as work:
            await work.publish(SecretRead(workspace.signing_secret, action.team_id))
            person = await addresses.person_at(work, Channel.SLACK, action.user_id)
            call.holder = person.handle
            caller = Caller(workspace.organization, person.id, person.handle, KeyId(""), person.role.permissions)
            asking = await service.about(work, action.about)
            kept = await service.answer(
                work,
                asking,
                action.approved,
                f"{'approve' if action.approved else 'deny'} {asking.number}",
                caller=caller,
                channel=Channel.SLACK,
                dedup=f"slack {action.team_id} {action.user_id} {action.pressed_at} {action.about}",
            )
    except SlackUserUnknown as error:
        await call.refuse("slack_user_unknown", error)
    except NotAllowed as error:
        await call.refuse(_reason(error), error)
    except ThreadUnknown as error:
        await call.refuse("slack_thread_unknown", error)
    return {"message_id": kept.id}


def _not_signed() -> SlackRefused:
    return SlackRefused(
        "no connected Slack workspace has signed this, or too long ago", then="Let Slack send it, at once."
    )


@dataclass(slots=True)
class _Call:
    """A call of Slack's, and how it is refused: kept as a fact, and while unsigned counted against who sent it."""

    request: Request
    action: slack.Action
    organization: OrgId | None
    holder: str = ""

    async def refuse(self, reason: str, error: AgentOSError) -> NoReturn:
        """Keep the refusal and raise. Raises RateExceeded (429) when there were too many of them."""
        unsigned = isinstance(error, SlackRefused)
        user = "" if unsigned else self.action.user_id  # a forger names any, to be counted as many
        await refused(self.request, self.organization, reason, user, self.holder or "slack")
        if unsigned:
            self.request.app.state.rates.guess(address_of(self.request))
        raise error


def _thread(one: Thread) -> dict[str, Any]:
    return {
        "id": one.id,
        "number": one.number,
        "about": one.about,
        "title": one.title,
        "state": "open" if one.closed_at is None else "closed",
        "opened_by": one.opened_by,
        "opened_at": one.opened_at,
        "closed_at": one.closed_at,
        "alerted_at": one.alerted_at,
    }


def _message(one: Message) -> dict[str, Any]:
    return {
        "id": one.id,
        "thread_id": one.thread_id,
        "kind": one.kind.value,
        "channel": one.channel.value,
        "author": one.author,
        "text": one.text,
        "about": one.about,
        "approved": one.approved,
        "at": one.at,
        "settled_at": one.settled_at,
    }


def _addresses(handle: str, found: dict[Channel, str]) -> dict[str, Any]:
    return {"handle": handle, "email": found.get(Channel.EMAIL), "slack": found.get(Channel.SLACK)}


def _workspace(one: Workspace) -> dict[str, Any]:
    return {
        "team": one.team_id,
        "signing_secret": one.signing_secret,
        "token": one.token,
        "shows": one.shows,
        "connected_by": one.connected_by,
        "connected_at": one.connected_at,
    }
