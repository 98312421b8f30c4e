"""How every route learns who is asking and what they may do; and the HTTP door to people and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Cookie, Depends, Query, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from agentos.intake.identity import oidc, service, sessions
from agentos.intake.identity.model import (
    AccessRefused,
    Caller,
    Key,
    NotAllowed,
    Permission,
    Person,
    Role,
    Unauthorized,
)
from agentos.intake.identity.oidc import Provider
from agentos.intake.identity.refusals import Refusals
from agentos.intake.requests.rates import Rates
from agentos.intake.requests.turns import Turns
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of
from agentos.kernel.ids import OrgId
from agentos.kernel.openapi import lets_in
from agentos.kernel.units import duration

router = APIRouter(prefix="/api/v1", tags=["identity"])

_bearer = HTTPBearer(auto_error=False, description="A key of a person or a machine.")
_cookie = APIKeyCookie(name=sessions.COOKIE, auto_error=False, description="The session of a person in a browser.")
_SAID = {
    "no_key": "this needs a key",
    "unknown_key": "this needs a valid key",
    "revoked_key": "this key was revoked",
    "expired_key": "this key has expired",
    "unknown_session": "this session is not known",
    "ended_session": "this session was ended",
    "expired_session": "this session has expired",
    "foreign_page": "a session changes nothing on behalf of another site's page",
    "disabled_person": "the holder of this key may not act any more",
}


async def caller(
    request: Request,
    doors: DoorsDep,
    given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    session: Annotated[str | None, Security(_cookie)],
) -> AsyncIterator[Caller]:
    """Who is asking, in their organization's turn, which lasts until the answer is made; a stream's body takes none.

    Raises Unauthorized (401), RateExceeded (429), TooManyWaiting (503).
    """
    turns: Turns = request.app.state.turns
    if given is not None:
        shown = await service.shown_by(doors.database, given.credentials)
    elif session:
        shown = await sessions.shown_by_session(doors.database, session)
    else:
        shown = service.Shown(None, "no_key")
    if shown.caller is not None and given is None and not _of_our_pages(request):
        shown = replace(shown, caller=None, refused="foreign_page")
    found = await _let_in(request, shown, then="Send 'Authorization: Bearer KEY', or sign in.")
    async with turns.turn(found.organization):
        yield found


async def keyed(request: Request, doors: DoorsDep) -> Caller:
    """Who is asking by a key, as ``Authorization: Bearer KEY`` or ``x-api-key: KEY``; no session of a browser counts.

    It takes no turn: what comes after may last, and the route takes one for what it does itself. Raises Unauthorized
    (401), RateExceeded (429).
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    shown = await service.shown_by(doors.database, secret) if secret else service.Shown(None, "no_key")
    return await _let_in(request, shown, then="Send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")


async def _let_in(request: Request, shown: service.Shown, *, then: str) -> Caller:
    rates: Rates = request.app.state.rates
    if shown.caller is None:
        await refused(request, shown.organization, shown.refused, shown.key_id, shown.holder)
        if shown.refused != "no_key":
            rates.guess(address_of(request))
        raise Unauthorized(_SAID[shown.refused], then=then)
    structlog.contextvars.bind_contextvars(org=shown.caller.organization)
    request.state.caller = shown.caller
    rates.take(shown.caller.key_id)
    return shown.caller


CallerDep = Annotated[Caller, Depends(caller, scope="function")]


def may(permission: Permission) -> Any:
    """The dependency of a route that takes this permission. Raises NotAllowed (403) without it."""

    async def allowed(request: Request, asking: CallerDep) -> Caller:
        await demand(request, asking, permission)
        return asking

    allowed.permission = permission  # type: ignore[attr-defined]  # the reference and a test read it from the route
    return Depends(allowed)


async def demand(request: Request, asking: Caller, permission: Permission) -> None:
    """Raises NotAllowed (403) when the caller has no such permission, and keeps that as a fact."""
    if permission not in asking.permissions:
        await refused(request, asking.organization, f"not_allowed:{permission}", asking.key_id, asking.handle)
        raise NotAllowed(
            f"this takes the permission '{permission}': to {permission.means}",
            then="Ask an admin for another role, or use a key with this scope.",
        )


Reader = Annotated[Caller, may(Permission.READ)]
IdentityAdmin = Annotated[Caller, may(Permission.CHANGE_IDENTITY)]


def _of_our_pages(request: Request) -> bool:
    """Whether a request with a cookie changes nothing, or was made by a page of this very site.

    The cookie is SameSite=Strict already; this holds where a browser is old or a neighbour of the same site is hostile.
    """
    if request.method in ("GET", "HEAD"):
        return True
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    return request.headers.get("origin") == f"{request.url.scheme}://{request.headers.get('host', '')}"


def address_of(request: Request) -> str:
    """Where a request comes from, as far as this process sees."""
    return request.client.host if request.client else "unknown"


async def refused(request: Request, organization: OrgId | None, reason: str, key_id: str, holder: str) -> None:
    """Keep as a fact that this request was refused. Never raises."""
    refusals: Refusals = request.app.state.refusals
    route = f"{request.method} {getattr(request.scope.get('route'), 'path', 'none')}"
    await refusals.note(organization, AccessRefused(reason, address_of(request), key_id, holder, route, 1))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPerson(_Body):
    """A person who joins."""

    handle: str = Field(max_length=63)
    role: Role = Role.VIEWER


class PersonChange(_Body):
    """What is to change about a person."""

    role: Role | None = None
    enabled: bool | None = None


class NewKey(_Body):
    """A key for a person or for a machine."""

    person: str | None = Field(None, max_length=63, description="The handle of whom it is for.")
    machine: str | None = Field(None, max_length=63, description="Or the name of the machine.")
    scopes: list[Permission] | None = Field(None, max_length=50, description="What it is narrowed to.")
    lasts: str | None = Field(None, max_length=40, description="How long, as 30d; machines' keys 90d.")


class Rotation(_Body):
    """How a key is followed by another."""

    overlap: str = Field("1d", max_length=40, description="How long the old one goes on, as 1d.")


class SignIn(_Body):
    """Who signs in where."""

    organization: str = Field(max_length=63)
    handle: str = Field(max_length=63)
    password: str = Field(max_length=256)


class NewPassword(_Body):
    """A password that is to be."""

    password: str = Field(max_length=256)


@router.post("/sessions", status_code=201, openapi_extra=lets_in(401, 429, 503))
async def sign_in(body: SignIn, request: Request, response: Response, doors: DoorsDep) -> dict[str, Any]:
    """Open a session with a password; the browser keeps it as a cookie that no script can read."""
    rates: Rates = request.app.state.rates
    organization = OrgId(ids.checked_name(body.organization, what="organization"))
    try:
        made = await sessions.sign_in(doors, organization, body.handle, body.password, at=now())
    except Unauthorized:
        await refused(request, organization, "wrong_password", "", body.handle)
        rates.guess(address_of(request))
        rates.guess(f"{organization} {body.handle}")
        raise
    return _opened(made, request, response)


@router.get("/sessions/oidc", status_code=303, openapi_extra=lets_in(404, 503))
async def begin_oidc(request: Request) -> Response:
    """Go to the identity provider to sign in."""
    provider: Provider = request.app.state.provider
    address, way = await provider.begin()
    response = RedirectResponse(address, 303)
    # Lax, since the provider's page sends the browser back here.
    response.set_cookie(
        oidc.COOKIE,
        way.cookie(),
        max_age=oidc.WAY_SECONDS,
        path="/api/v1/sessions/oidc",
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="lax",
    )
    return response


@router.get("/sessions/oidc/callback", status_code=201, openapi_extra=lets_in(401, 404, 503))
async def finish_oidc(
    request: Request,
    response: Response,
    doors: DoorsDep,
    state: Annotated[str, Query(max_length=200)],
    code: Annotated[str, Query(max_length=4000)],
    kept: Annotated[str, Cookie(alias=oidc.COOKIE, max_length=1000)] = "",
) -> dict[str, Any]:
    """Come back from the identity provider; opens a session for the person that it names."""
    provider: Provider = request.app.state.provider
    organization = OrgId(provider.organization)
    try:
        handle = await provider.finish(kept, state, code, at=now())
        made = await sessions.open_for(doors, organization, handle, at=now())
    except Unauthorized:
        await refused(request, organization, "oidc_refused", "", "")
        raise
    response.delete_cookie(oidc.COOKIE, path="/api/v1/sessions/oidc")
    return _opened(made, request, response)


def _opened(made: sessions.Session, request: Request, response: Response) -> dict[str, Any]:
    response.set_cookie(
        sessions.COOKIE,
        made.secret,
        max_age=round(sessions.LASTS.total_seconds()),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return {"id": made.id, "handle": made.handle, "expires_at": made.expires_at}


@router.delete("/sessions/current", status_code=204)
async def sign_out(asking: CallerDep, response: Response, doors: DoorsDep) -> None:
    """End the session that you came with."""
    async with doors.open(asking.organization) as work:
        await sessions.sign_out(work, asking, at=now())
    response.delete_cookie(sessions.COOKIE)


@router.put("/people/{handle}/password", status_code=204)
async def set_password(handle: str, body: NewPassword, asking: IdentityAdmin, doors: DoorsDep) -> None:
    """Give a person another password. Their sessions end."""
    async with doors.open(asking.organization) as work:
        await sessions.set_password(work, handle, body.password, by=asking.handle, at=now())


@router.get("/me")
async def me(asking: CallerDep) -> dict[str, Any]:
    """Who you are and what you may do."""
    return {
        "organization": asking.organization,
        "handle": asking.handle,
        "key_id": asking.key_id,
        "permissions": sorted(asking.permissions),
    }


@router.get("/organization")
async def show_organization(asking: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Your organization."""
    async with doors.open(asking.organization) as work:
        return await service.organization(work)


@router.get("/people")
async def list_people(asking: IdentityAdmin, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """The people of your organization, by handle."""
    async with doors.open(asking.organization) as work:
        found = await service.people(work, after=position_of(cursor), most=limit + 1)
    return page([_person(one) for one in found], limit, by="handle")


@router.post("/people", status_code=201)
async def add_person(body: NewPerson, asking: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Add a person. They can do nothing before they have a key."""
    service.permit(asking, body.role.permissions)
    async with doors.open(asking.organization) as work:
        return _person(await service.add_person(work, body.handle, body.role, by=asking.handle))


@router.patch("/people/{handle}")
async def change_person(handle: str, body: PersonChange, asking: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Give a person another role, or withdraw or restore their right to act. It binds their next request."""
    service.permit(asking, body.role.permissions if body.role else ())
    async with doors.open(asking.organization) as work:
        return _person(
            await service.change_person(work, handle, role=body.role, enabled=body.enabled, by=asking.handle, at=now())
        )


@router.get("/keys")
async def list_keys(asking: IdentityAdmin, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """The keys of your organization, oldest first; never their secrets."""
    async with doors.open(asking.organization) as work:
        found = await service.keys(work, after=position_of(cursor), most=limit + 1)
    return page([_key(one) for one in found], limit)


@router.post("/keys", status_code=201)
async def create_key(body: NewKey, asking: IdentityAdmin, doors: DoorsDep) -> dict[str, Any]:
    """Make a key. Its secret is in this answer and nowhere else."""
    service.permit(asking, body.scopes or ())
    lasts = None if body.lasts is None else duration(body.lasts)
    async with doors.open(asking.organization) as work:
        if body.person is not None and body.scopes is None:
            service.permit(asking, (await service.person(work, body.person)).role.permissions)
        key, secret = await service.create_key(
            work,
            handle=body.person,
            machine=body.machine,
            scopes=body.scopes,
            lasts=lasts,
            by=asking.handle,
            at=now(),
        )
    return _key(key) | {"secret": secret}


@router.post("/keys/{key_id}/rotate", status_code=201)
async def rotate_key(key_id: str, body: Rotation, asking: CallerDep, doors: DoorsDep) -> dict[str, Any]:
    """Make a key that follows this one, which goes on for a while. Everybody may rotate their own."""
    overlap: timedelta = duration(body.overlap)
    async with doors.open(asking.organization) as work:
        key, secret = await service.rotate_key(work, key_id, overlap=overlap, caller=asking, at=now())
    return _key(key) | {"secret": secret}


@router.post("/keys/{key_id}/revoke", status_code=204)
async def revoke_key(key_id: str, asking: CallerDep, doors: DoorsDep) -> None:
    """Close a key: its next request is refused. Everybody may revoke their own."""
    async with doors.open(asking.organization) as work:
        await service.revoke_key(work, key_id, caller=asking, at=now())


def _person(one: Person) -> dict[str, Any]:
    return {
        "id": one.id,
        "handle": one.handle,
        "role": one.role.value,
        "enabled": one.disabled_at is None,
        "created_at": one.created_at,
        "disabled_at": one.disabled_at,
    }


def _key(one: Key) -> dict[str, Any]:
    return {
        "id": one.id,
        "holder": one.holder,
        "scopes": None if one.scopes is None else [scope.value for scope in one.scopes],
        "created_by": one.created_by,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "revoked_at": one.revoked_at,
    }
