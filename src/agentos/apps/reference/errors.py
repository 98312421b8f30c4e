"""The page of errors: what each code means, to HTTP and to a shell, and whether trying again may help."""

from __future__ import annotations

from agentos.apps.reference import loaded, markdown
from agentos.kernel.errors import EXIT_CODE, KINDS, RETRYABLE, AgentOSError, every_error, http_status


def error_classes() -> list[type[AgentOSError]]:
    """Every error of the platform, kind by kind."""
    found = loaded.ours(every_error())
    return [
        error
        for kind in KINDS
        for error in sorted(found, key=lambda error: (error not in KINDS, error.code))
        if issubclass(error, kind)
    ]


def page() -> str:
    """The page as text."""
    body = [
        "# Errors\n",
        "Over HTTP an error is a problem document (RFC 9457) with its `code`; the command line prints the same\n"
        "document with `--json`, and ends with the exit code. Codes are stable. In bold: the seven kinds.\n",
    ]
    rows = []
    for error in error_classes():
        bare = error.__new__(error)  # the tables need only the class
        code = f"**`{error.code}`**" if error in KINDS else f"`{error.code}`"
        again = "yes" if RETRYABLE[bare.kind] else "no"
        rows.append(
            (
                code,
                bare.kind.__name__,
                str(http_status(bare)),
                str(EXIT_CODE[bare.kind]),
                again,
                markdown.guarantee(error),
            )
        )
    return markdown.page(
        [*body, *markdown.table(("code", "kind", "HTTP status", "exit code", "try again", "meaning"), rows)]
    )
