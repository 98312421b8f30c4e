"""The process in which ``json_transform`` evaluates one expression: JSON in, JSON out, bounded memory and time."""

from __future__ import annotations

import json
import resource
import sys
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError

MEMORY_BYTES: Final = (
    512 * 1024 * 1024
)  # 4 MiB of JSON take ~60 MB as Python objects; a transformation a few times that
CPU_SECONDS: Final = 5


def main() -> None:
    """Read ``[expression, data]`` from stdin, write ``{"result": …}`` or ``{"refused": why}`` to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most_bytes = int(sys.argv[1])
    expression, data = json.loads(sys.stdin.buffer.read())
    try:
        said = _json(jmespath.search(expression, data), most_bytes)
        answer = '{"result":' + said + "}"
    except JMESPathError as error:
        answer = json.dumps({"refused": f"the expression cannot be evaluated: {str(error)[:300]}"})
    except RecursionError:
        answer = json.dumps({"refused": "the expression or the result is nested too deeply"})
    except (MemoryError, OverflowError):
        answer = json.dumps({"refused": "the result is too large"})
    except Exception as error:  # the library lets Python's own errors through for data that a function cannot take
        answer = json.dumps({"refused": f"the expression does not fit the data: {type(error).__name__}"})
    sys.stdout.write(answer)


def _json(value: Any, most_bytes: int) -> str:
    """The JSON of a value, given up as soon as it is too long: a small value may hold itself many times over."""
    parts, size = [], 0
    for part in json.JSONEncoder(allow_nan=False, check_circular=False).iterencode(value):
        size += len(part)
        if size > most_bytes:
            raise OverflowError
        parts.append(part)
    return "".join(parts)


if __name__ == "__main__":
    main()
