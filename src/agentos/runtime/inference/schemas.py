"""Whether the schemas of a question may be used, asked once for each: no provider is told one that may not."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agentos.kernel.schemas import MOST_BYTES, Fault, faults
from agentos.runtime.inference.model import ModelRejectedRequest, Tool
from agentos.runtime.inference.ports import Question

KNOWN: Final = 2048  # schemas that a process remembers by their digests: a few hundred skills in a few versions
MOST_TOGETHER: Final = 8 * MOST_BYTES  # of one question; clients with a hundred tools have half of that

_encode: Final = msgspec.json.Encoder().encode
_known: OrderedDict[bytes, Fault | None] = OrderedDict()


def check_schemas(question: Question) -> None:
    """Raises ModelRejectedRequest with the place of the first schema of the question that may not be used."""
    found = first_fault(question.tools, question.schema)
    if found is None:
        return
    number, fault = found
    name = "" if number is None else question.tools[number].name[:64]
    what = "the schema of the answer" if number is None else f"the schema of '{name}'"
    where = "schema" if number is None else f"tools[{number}].schema"
    raise ModelRejectedRequest(f"{what} cannot be used: {fault.what}", where=where + fault.where, then=fault.then)


def first_fault(tools: Sequence[Tool], schema: dict[str, Any] | None) -> tuple[int | None, Fault] | None:
    """The first fault of the schemas of tools and of the answer, with the tool's number; None: they may all be used."""
    size = 0
    for number, one in [*((at, tool.schema) for at, tool in enumerate(tools)), (None, schema)]:
        if one is None:
            continue
        fault, bytes_ = _looked_at(one)
        size += bytes_
        if fault is None and number is not None and one.get("type", "object") != "object":
            fault = Fault(("type",), "it is not of an object", "Arguments have names: write type: object.")
        if fault is None and size > MOST_TOGETHER:
            fault = Fault((), f"the schemas are over {MOST_TOGETHER} bytes together", "Send fewer tools.")
        if fault is not None:
            return number, fault
    return None


def _looked_at(schema: Any) -> tuple[Fault | None, int]:
    """The schema's first fault, and its size."""
    try:
        written = _encode(schema)
    except (TypeError, ValueError, RecursionError):
        return Fault((), "it has no JSON form", "Write JSON."), 0
    if len(written) > MOST_BYTES:
        return next(iter(faults(schema, foreign=True)), None), len(written)
    key = hashlib.sha256(written).digest()
    if key in _known:
        _known.move_to_end(key)
    else:
        _known[key] = next(iter(faults(schema, foreign=True)), None)
        if len(_known) > KNOWN:
            _known.popitem(last=False)
    return _known[key], len(written)
