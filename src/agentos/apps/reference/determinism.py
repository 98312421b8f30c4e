"""The page of determinism: what of a run is hashed, compared and left out, and what sets two runs apart."""

from __future__ import annotations

from agentos.apps.reference import markdown
from agentos.evidence.replay import content


def page() -> str:
    """The page as text."""
    body = [
        "# Determinism\n",
        f"The content hash of a run is the SHA-256 of one document in its RFC 8785 form, format {content.FORMAT}:\n"
        "`end` (status, code, output), `format`, `input`, `steps` and `version`. A step is an answer of the model, a\n"
        "call, or what people wrote to the run; steps stand in the order in which the agent took them. A replay is\n"
        "compared with its recording field by field in the order of this table, and the first that differs gives the\n"
        "divergence its class.\n",
        "## What counts\n",
    ]
    body += markdown.table(
        ("of", "field", "class of a difference", "", "meaning"),
        (
            (f"the {part.of}", f"`{part.name}`", f"`{part.kind}`", "hashed" if part.hashed else "compared", part.words)
            for part in content.PARTS
        ),
    )
    body += ["## What is left out\n", *markdown.table(("what", "why"), content.LEFT_OUT.items())]
    body += [
        'Whole numbers from 2^53 on, which RFC 8785 has no form for, are hashed as `{"$number": "…"}`.\n',
        "## Classes\n",
        *markdown.table(
            ("class", "meaning"), ((f"`{kind}`", words) for kind, words in markdown.told(content.Kind).items())
        ),
    ]
    return markdown.page(body)
