"""The HTTP door to models and agents for others' clients: ``/v1``, where errors have their forms, too."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from agentos.control.privacy.routes import PrivacyDep, look
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import demand, keyed, may
from agentos.intake.requests.turns import Turns
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError
from agentos.kernel.http import DoorsDep, Region
from agentos.kernel.ids import OrgId
from agentos.runtime.gateway import agents, asking, chat, messages, service, wire
from agentos.runtime.gateway.model import AGENT, MOST_BODY_BYTES, STUB, Asker, Opening, Wanted
from agentos.runtime.gateway.ports import Form
from agentos.runtime.gateway.talks import Gateway, Talk
from agentos.runtime.inference.routes import ModelsDep
from agentos.runtime.runs.routes import IdempotencyKey

# No part of our own document: the vendors' documents describe these routes, and docs/models.md what differs.
router = APIRouter(prefix="/v1", tags=["gateway"], include_in_schema=False)

# A question of our own form, which is asked as all of these are.
tests = APIRouter(prefix="/api/v1/models", tags=["models"])

RUN: Final = "X-AgentOS-Run-Id"
GONE: Final = 499  # nobody reads it: the client went away


Client = Annotated[Caller, Depends(keyed)]


async def gateway(request: Request) -> Gateway:
    """What this process holds for the gateway."""
    found: Gateway = request.app.state.gateway
    return found


GatewayDep = Annotated[Gateway, Depends(gateway)]


class Test(BaseModel):
    """One word to one model."""

    model_config = ConfigDict(extra="forbid")
    provider: str = Field(min_length=1, max_length=64)
    model: str = Field(max_length=200, description="Its name, as in spec.model.name.")
    text: str = Field("ping", min_length=1, max_length=1000, description="What it is told.")


Tester = Annotated[Caller, may(Permission.TEST_MODELS)]


@tests.post("/test")
async def test_model(
    body: Test, request: Request, caller: Tester, held: GatewayDep, known: ModelsDep
) -> dict[str, Any]:
    """Ask a model one word, for at most 16 tokens of answer, and tell what came of it. It counts in the budgets."""
    if body.provider != STUB:
        known.check({"provider": body.provider, "name": body.model})
    asker = Asker(caller.organization, caller.handle, request.state.request_id)
    return await service.ask_a_word(held.parts, asker, body.provider, body.model, body.text, at=now())


@router.post("/chat/completions")
async def complete(
    request: Request,
    caller: Client,
    held: GatewayDep,
    doors: DoorsDep,
    privacy: PrivacyDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """OpenAI's chat completions."""
    talk, wanted = await _begun(request, caller, held, doors, privacy, chat.FORM, idempotency_key)
    return await _told(request, held, chat.FORM, talk, wanted)


@router.post("/messages")
async def converse(
    request: Request,
    caller: Client,
    held: GatewayDep,
    doors: DoorsDep,
    privacy: PrivacyDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Anthropic's Messages."""
    talk, wanted = await _begun(request, caller, held, doors, privacy, messages.FORM, idempotency_key)
    return await _told(request, held, messages.FORM, talk, wanted)


@router.get("/models")
async def list_models(request: Request, caller: Client, doors: DoorsDep) -> dict[str, Any]:
    """What the caller may name as ``model``, in the forms of both vendors at once."""
    turns: Turns = request.app.state.turns
    async with turns.turn(caller.organization), doors.open(caller.organization) as work:
        names = await service.nameable(
            work,
            models=Permission.ASK_MODELS in caller.permissions,
            agents=Permission.START_RUNS in caller.permissions,
        )
    # Nobody knows since when there is such a model; the epoch is the vendors' own word for that.
    since = {"created": 0, "created_at": "1970-01-01T00:00:00Z"}
    data = [
        {"id": name, "object": "model", "type": "model", "display_name": name, "owned_by": whose, **since}
        for name, whose in names
    ]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, "has_more": False, **ends}


async def _begun(
    request: Request,
    caller: Caller,
    held: Gateway,
    doors: DoorsDep,
    privacy: PrivacyDep,
    form: Form,
    idempotency_key: str | None,
) -> tuple[Talk, Wanted]:
    """The answer to this request as it begins. Only what comes before takes one of the organization's turns."""
    if not caller.permissions & {Permission.ASK_MODELS, Permission.START_RUNS}:
        await demand(request, caller, Permission.ASK_MODELS)
    body = await request.body()
    asker = Asker(caller.organization, caller.handle, request.state.request_id)
    turns: Turns = request.app.state.turns
    async with turns.turn(caller.organization):
        wanted = form.read(body)
        if not wanted.model.startswith(AGENT):
            await demand(request, caller, Permission.ASK_MODELS)
            return await _of_model(held, asker, wanted), wanted
        await demand(request, caller, Permission.START_RUNS)
        started = await agents.start(held.parts, asker, wanted, idempotency_key)
        sight = await look(caller, doors, privacy)
    at = now()
    talk = Talk(started.run_id, at, Opening(started.run_id, wanted.model, agents.PROVIDER, at, started.run_id))
    within, patient = held.settings.seconds, wanted.stream
    output = agents.output(held.parts, asker, started, within=within, patient=patient, see=sight.of)
    return held.begin(talk, output), wanted


async def _of_model(held: Gateway, asker: Asker, wanted: Wanted) -> Talk:
    organization = OrgId(asker.organization)
    route = await service.route_of(
        held.parts, held.providers, organization, wanted, most_tokens=held.settings.max_tokens, at=now()
    )
    talk = Talk(ids.new("ask"), now())
    answer = asking.ask(
        held.parts,
        asker,
        talk.id,
        wanted,
        route,
        within=held.settings.seconds,
        hear=talk.hear if wanted.stream else None,
        began=talk.began,
    )
    return held.begin(talk, answer)


async def _told(request: Request, held: Gateway, form: Form, talk: Talk, wanted: Wanted) -> Response:
    """The answer in the client's form, whole or as a stream; a client that goes away breaks it off."""
    request_id: str = request.state.request_id
    headers = {"request-id": request_id}
    if talk.opening is not None and talk.opening.run_id:
        headers[RUN] = talk.opening.run_id
    if not wanted.stream:
        said = await talk.whole(_gone(request))
        if said is None:
            return Response(status_code=GONE)
        return Response(wire.encode(form.shown(said, talk.at)), media_type="application/json", headers=headers)
    if not await talk.first(_gone(request), held.settings.first_word_seconds):
        return Response(status_code=GONE)
    return _Stream(talk, talk.events(form.events(wanted), request_id, held.settings.alive_seconds), headers)


class _Stream(StreamingResponse):
    """A stream of events; when nobody reads it any more, nothing goes on for it."""

    def __init__(self, talk: Talk, events: Any, headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers | {"Cache-Control": "no-store"})
        self.talk = talk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.talk.stop()


async def _gone(request: Request) -> None:
    """Return when the client goes away. The body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def refused(error: AgentOSError, scope: Scope) -> Response:
    """An error in the form that the client expects, by the route or by the header that only one vendor asks for."""
    sent = dict(scope["headers"])
    anthropic = scope["path"].startswith("/v1/messages") or b"anthropic-version" in sent
    request_id = str(scope.get("state", {}).get("request_id", ""))
    status, body = (messages.FORM if anthropic else chat.FORM).refusal(error, request_id)
    headers = {"request-id": request_id}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if wire.final(error):
        headers["X-Should-Retry"] = "false"
    if "run_id" in error.extra:
        headers[RUN] = str(error.extra["run_id"])
    return JSONResponse(body, status, headers=headers)


REGION: Final = Region("/v1/", MOST_BODY_BYTES, refused)
