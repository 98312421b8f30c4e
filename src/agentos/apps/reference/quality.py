"""The page of quality: every figure, every part of a score, every dimension of drift, and the sample sizes."""

from __future__ import annotations

from agentos.apps.reference import markdown
from agentos.evidence.quality import drift, figures, scoring
from agentos.evidence.recommendations import rules


def page() -> str:
    """The page as text."""
    body = [
        "# Figures of quality\n",
        "What they mean and how they are used: [quality.md](../quality.md). A gate names a figure by its name.\n",
        "## Figures\n",
    ]
    rows = (
        (f"`{one.name}`", one.unit, one.better, one.formula, "yes" if one.comparable else "no")
        for one in (figures.METRICS | figures.WHAT_IFS).values()
    )
    body += markdown.table(("figure", "unit", "better", "formula", "`no_worse`"), rows)
    evaluated = figures.metric(f"{figures.EVAL}dataset")
    body += [f"And `{figures.EVAL}DATASET`: {evaluated.formula}.\n"]
    body += [f"## Parts of a score, formula {scoring.FORMULA}\n"]
    body += markdown.table(
        ("part", "weight", "value, 0 to 1"),
        ((f"`{one.name}`", f"{one.weight:g}", one.formula) for one in scoring.PARTS),
    )
    body += ["## Parts of confidence\n"]
    body += markdown.table(("part", "value"), ((f"`{name}`", formula) for name, formula in scoring.GROUNDS))
    body += [f"Confidence is ({scoring.PRIOR} × mean + accepted) ÷ ({scoring.PRIOR} + judged).\n"]
    body += ["## Dimensions of drift\n"]
    distances = {"category": "Jensen–Shannon distance", "number": "Kolmogorov–Smirnov statistic"}
    body += markdown.table(
        ("dimension", "of each run", "distance"),
        ((f"`{one.name}`", one.what, distances[one.kind]) for one in drift.DIMENSIONS),
    )
    body += ["## Recommendations\n"]
    body += markdown.table(
        ("kind", "is made when"), ((f"`{rule.__name__}`", (rule.__doc__ or "").strip()) for rule in rules.RULES)
    )
    body += ["## Runs of each version that a `no_worse` gate takes\n"]
    margins = (0.02, 0.05, 0.1)
    body += markdown.table(
        ("rate of the serving version", *(f"margin {margin:.0%}" for margin in margins)),
        (
            (f"{rate:.0%}", *(f"{figures.samples_for(margin, rate):,}" for margin in margins))
            for rate in (0.99, 0.95, 0.9, 0.8, 0.5)
        ),
    )
    return markdown.page(body)
