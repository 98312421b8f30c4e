"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass

from agentos.kernel.errors import Forbidden
from agentos.kernel.ids import KeyId, OrgId, PersonId


class Unauthorized(Forbidden):
    """No key, or one that opens nothing."""

    code = "unauthorized"
    status = 401


@dataclass(frozen=True, slots=True)
class Caller:
    """A person of an organization, as shown by a key."""

    organization: OrgId
    person_id: PersonId
    handle: str
    key_id: KeyId
