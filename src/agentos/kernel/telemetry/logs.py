"""Logs are JSON lines with what identifies the work: request_id, run_id, org. Never a secret, never a parameter unless
LOG_SKILL_PARAMS asks for it."""

from __future__ import annotations

import logging
import sys
from typing import Final

import structlog

from agentos.kernel.settings import BadSetting, LogSettings

# The structure of a stack, without the values in its frames: they hold keys, arguments and what models said.
_STACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logs(settings: LogSettings, service: str) -> None:
    """Send this process's logs to stderr as JSON lines. Raises BadSetting (Invalid) for an unknown LOG_LEVEL."""
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
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
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
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _service(name: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = name
        return event

    return add
