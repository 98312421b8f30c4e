"""Change something at an HTTP address that is listed, and tell what was answered.

Whatever the host answers, a refusal too, is the result: the call is over. Without an answer nobody knows what happened,
and as receivers differ in what they make of a request that comes twice, the skill does not promise ``idempotent``: a
person is asked. ``Idempotency-Key`` is sent, the same for every attempt, for receivers that honour it.

Redirects are not followed: what was approved was this address.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agentos.adapters.skills.fetching import (
    DEFAULT_BYTES,
    Answer,
    Ask,
    EgressForbidden,
    Headers,
    HttpHeaderRefused,
    HttpNotReached,
    HttpUnavailable,
    Link,
    MostBytes,
    SecretNotSent,
    fetch,
)
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved
from agentos.kernel.errors import Invalid
from agentos.runtime.skills import SkillContext, skill

MOST_SENT: Final = 256 * 1024  # bytes of a body
TOTAL: Final = timedelta(seconds=20)


class HttpBodyRefused(Invalid):
    """A body that is too large, or both JSON and text."""

    code = "http_body_refused"


# S3: what was sent is out of our hands.
@skill(
    version="1",
    effect="S3",
    reversibility="irreversible",
    timeout="21s",
    stable=("url", "status", "headers", "body", "encoding", "bytes", "truncated"),
    failures=(
        EgressForbidden,
        HttpBodyRefused,
        HttpHeaderRefused,
        HttpNotReached,
        HttpUnavailable,
        SecretNotSent,
        TargetForbidden,
        TargetMalformed,
    ),
)
async def http_request(
    context: SkillContext,
    method: Annotated[Literal["POST", "PUT", "PATCH", "DELETE"], Field(description="What to do there.")],
    url: Link,
    headers: Headers = {},  # noqa: B006  # a default of the schema, never changed
    payload: Annotated[Any, Field(description="The body as JSON, 256 KiB at most; null for none.")] = None,
    text: Annotated[str | None, Field(description="The body as text instead; say its content-type.")] = None,
    max_bytes: MostBytes = DEFAULT_BYTES,
) -> Answer:
    """Send a request that changes something over HTTP. Every answer is a result; redirects are not followed."""
    body = None if text is None else text.encode()
    given = dict(headers)
    if payload is not None:
        if body is not None:
            raise HttpBodyRefused("the body is JSON and text at once", then="Give payload or text.")
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    if body is not None and len(body) > MOST_SENT:
        raise HttpBodyRefused(f"the body is larger than {MOST_SENT} bytes", then="Send a part, or a link.")
    if not any(name.lower() == "content-type" for name in given):
        given |= {"content-type": "application/json" if text is None else "text/plain; charset=utf-8"} if body else {}
    ask = Ask(method, url, given, body, max_bytes, key=context.key)
    try:
        answer, _ = await fetch(context, ask, TOTAL)
    except TargetUnresolved as error:
        raise HttpNotReached(f"{error.what}; nothing was sent", then=error.then) from None
    return answer
