"""Whether the schemas of a question are JSON schemas, asked once for each: no provider is told one that is not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, SchemaError

from agentos.runtime.inference.model import ModelRejectedRequest
from agentos.runtime.inference.ports import Question

KNOWN: Final = 2048  # schemas that a process remembers: a few hundred skills in a few versions

_encode: Final = msgspec.json.Encoder().encode


def check_schemas(question: Question) -> None:
    """Raises ModelRejectedRequest with the place of the first schema of the question that is none."""
    for number, tool in enumerate(question.tools):
        _check(tool.schema, f"tools[{number}].schema", f"the schema of '{tool.name[:64]}'")
        if tool.schema.get("type", "object") != "object":
            raise ModelRejectedRequest(
                f"the schema of '{tool.name[:64]}' is not of an object",
                where=f"tools[{number}].schema.type",
                then="Arguments have names: write type: object.",
            )
    if question.schema is not None:
        _check(question.schema, "schema", "the schema of the answer")


def _check(schema: Any, where: str, what: str) -> None:
    try:
        wrong = _wrong(_encode(schema)) if isinstance(schema, dict) else (("", "it is no mapping"))
    except (TypeError, UnicodeEncodeError):
        wrong = ("", "it has no JSON form")
    if wrong is not None:
        raise ModelRejectedRequest(
            f"{what} is no JSON schema: {wrong[1]}",
            where=where + wrong[0],
            then="Write JSON Schema of draft 2020-12.",
        )


@lru_cache(KNOWN)
def _wrong(schema: bytes) -> tuple[str, str] | None:
    """Where below it and why a schema is none."""
    try:
        Draft202012Validator.check_schema(msgspec.json.decode(schema))
    except SchemaError as error:
        return error.json_path.removeprefix("$"), error.message[:200]
    return None
