"""Whether the schemas of a question may be used, asked once for each: no provider is told one that may not."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agentos.kernel.schemas import MOST_BYTES, Fault, faults, patterns
from agentos.runtime.inference.model import ModelRejectedRequest, Tool
from agentos.runtime.inference.ports import Question

KNOWN: Final = 2048  # schemas that a process remembers by their digests: a few hundred skills in a few versions
MOST_TOGETHER: Final = 8 * MOST_BYTES  # of one question; clients with a hundred tools have half of that
MOST_PATTERNS: Final = 200  # of one question: each is compiled

_encode: Final = msgspec.json.Encoder().encode
_known: OrderedDict[bytes, tuple[Fault | None, int]] = OrderedDict()


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
    size = matched = 0
    for number, one in [*((at, tool.schema) for at, tool in enumerate(tools)), (None, schema)]:
        if one is None:
            continue
        fault, patterns_, bytes_ = _looked_at(one)
        size, matched = size + bytes_, matched + patterns_
        if fault is None and number is not None and one.get("type", "object") != "object":
            fault = Fault(("type",), "it is not of an object", "Arguments have names: write type: object.")
        if fault is None and size > MOST_TOGETHER:
            fault = Fault((), f"the schemas are over {MOST_TOGETHER} bytes together", "Send fewer tools.")
        if fault is None and matched > MOST_PATTERNS:
            fault = Fault((), f"the schemas have over {MOST_PATTERNS} patterns together", "Use fewer.")
        if fault is not None:
            return number, fault
    return None


def _looked_at(schema: Any) -> tuple[Fault | None, int, int]:
    """The schema's first fault, how many patterns it has, and its size."""
    try:
        written = _encode(schema)
    except (TypeError, ValueError, RecursionError):
        return Fault((), "it has no JSON form", "Write JSON."), 0, 0
    if len(written) > MOST_BYTES:
        return next(iter(faults(schema, foreign=True)), None), 0, len(written)
    key = hashlib.sha256(written).digest()
    if key in _known:
        _known.move_to_end(key)
    else:
        fault = next(iter(faults(schema, foreign=True)), None)
        _known[key] = fault, 0 if fault else len(patterns(schema))
        if len(_known) > KNOWN:
            _known.popitem(last=False)
    return *_known[key], len(written)
