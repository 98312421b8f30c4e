"""Facts: what happened, in the past tense, typed, and known by name.

The outbox (``outbox.py``) writes them in the transaction of the change and hands them on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened, in the past tense: ids and digests, never content.

    A subclass is a frozen dataclass of JSON-able fields and names in ``key_field`` the aggregate that orders it.
    """

    key_field: ClassVar[str]
    kinds: ClassVar[dict[str, type[Fact]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        Fact.kinds[cls.__name__] = cls

    @property
    def name(self) -> str:
        """The fact's name on the outbox: its class's."""
        return type(self).__name__

    @property
    def key(self) -> str:
        """The id of the aggregate the fact is about."""
        return str(getattr(self, self.key_field))

    def body(self) -> str:
        """The fact's fields as JSON."""
        return msgspec.json.encode({f.name: getattr(self, f.name) for f in dataclasses.fields(self)}).decode()

    @classmethod
    def read(cls, name: str, body: dict[str, Any]) -> Fact | None:
        """The fact of that name, fields it does not know left out; None for a fact of another release."""
        kind = cls.kinds.get(name)
        if kind is None:
            return None
        return kind(**{f.name: body[f.name] for f in dataclasses.fields(kind) if f.name in body})
