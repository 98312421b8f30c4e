"""The page of metrics, with the names that the runbooks use for the same measurement."""

from __future__ import annotations

from collections.abc import Iterator

from agentos.apps.reference import markdown
from agentos.kernel.telemetry.catalogue import CATALOGUE, Metric


def page() -> str:
    """The page as text."""
    body = [
        "# Metrics\n",
        "Every process exports its own on `/metrics`; the page of the embedded API merges them. A metric that the\n"
        "runbooks know by other names is exported under those too, from the same measurement.\n",
    ]
    return markdown.page(
        [
            *body,
            *markdown.table(
                ("metric", "kind", "unit", "labels", "meaning", "also exported as"),
                (
                    (
                        f"`{metric.name}`",
                        metric.kind,
                        metric.unit,
                        ", ".join(f"`{label}`" for label in metric.labels),
                        metric.help,
                        ", ".join(_also(metric)),
                    )
                    for metric in sorted(CATALOGUE, key=lambda metric: metric.name)
                ),
            ),
        ]
    )


def _also(metric: Metric) -> Iterator[str]:
    for name in metric.also:
        yield f"`{name}`"
    for one in metric.sums:
        yield f"`{one.name}` (over every `{one.over}`{f' but {one.but}' if one.but else ''})"
