"""Logs are JSON lines with what identifies the work: request_id, run_id, org. Never a secret, never a parameter unless
LOG_SKILL_PARAMS asks for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from agentos.kernel.settings import BadSetting, LogSettings

# The structure of a stack, without the values in its frames: they hold keys, arguments and what models said.
_STACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


Clean = Callable[[MutableMapping[str, Any]], MutableMapping[str, Any]]


def configure_logs(settings: LogSettings, service: str, clean: Clean | None = None) -> None:
    """Send this process's logs to stderr as JSON lines, each after ``clean``, which takes out what nobody may read.

    Raises BadSetting (Invalid) for an unknown LOG_LEVEL.
    """
    level = logging.getLevelNamesMapping().get(settings.level.upper())
    if level is None:
        raise BadSetting(f"LOG_LEVEL: '{settings.level}' is no level", then="Use DEBUG, INFO, WARNING or ERROR.")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service(service),
        structlog.processors.ExceptionRenderer(_STACKS),
    ]
    cleaning: list[structlog.typing.Processor] = [] if clean is None else [_cleaning(clean)]
    structlog.configure(
        processors=[*shared, *cleaning, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *cleaning,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _cleaning(clean: Clean) -> structlog.typing.Processor:
    def cleaned(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return clean(event)

    return cleaned


def _service(name: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = name
        return event

    return add
