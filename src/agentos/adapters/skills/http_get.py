"""Read from an HTTP address that is listed, changing nothing there.

GET and HEAD are reads by the specification (RFC 9110, 9.2.1), so policy lets them through at every tier; that is why
hosts are listed, and why nothing is, unless the operator says so. What the address itself may carry out, such as a
query, is in the arguments and with them in the journal and before policy.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field

from agentos.adapters.http_dates import retry_after
from agentos.adapters.skills.fetching import (
    DEFAULT_BYTES,
    Answer,
    Ask,
    EgressForbidden,
    Headers,
    HttpHeaderRefused,
    HttpNotReached,
    HttpRedirectRefused,
    HttpUnavailable,
    Link,
    MostBytes,
    SecretNotSent,
    fetch,
)
from agentos.adapters.skills.targets import TargetForbidden, TargetMalformed, TargetUnresolved
from agentos.kernel.errors import Exhausted
from agentos.runtime.skills import SkillContext, skill

TOTAL: Final = timedelta(seconds=20)


class HttpRateLimited(Exhausted):
    """The host takes no more for now."""

    code = "http_rate_limited"


@skill(
    version="1",
    effect="S0",
    timeout="21s",
    stable=("url", "status", "headers", "body", "encoding", "bytes", "truncated", "redirects"),
    failures=(
        EgressForbidden,
        HttpHeaderRefused,
        HttpRateLimited,
        HttpRedirectRefused,
        HttpUnavailable,
        SecretNotSent,
        TargetForbidden,
        TargetMalformed,
        TargetUnresolved,
    ),
)
async def http_get(
    context: SkillContext,
    url: Link,
    headers: Headers = {},  # noqa: B006  # a default of the schema, never changed
    method: Annotated[Literal["GET", "HEAD"], Field(description="GET, or HEAD for the headers alone.")] = "GET",
    max_bytes: MostBytes = DEFAULT_BYTES,
) -> Answer:
    """Read an address over HTTP. Redirects are followed within the host; one to another host is the answer."""
    try:
        answer, said = await fetch(context, Ask(method, url, headers, most=max_bytes, follows=True), TOTAL)
    except HttpNotReached as error:  # asking again may help, and changes nothing
        raise HttpUnavailable(error.what) from None
    status = answer["status"]
    if status == 429:
        raise HttpRateLimited(f"the host answered {status}", where=url[:200], retry_after=retry_after(said))
    if status >= 500 or status in (408, 425):
        raise HttpUnavailable(f"the host answered {status}", where=url[:200], retry_after=retry_after(said))
    return answer
