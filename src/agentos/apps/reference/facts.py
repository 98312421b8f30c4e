"""The page of facts, by what the ledger has to tell."""

from __future__ import annotations

import dataclasses

from agentos.apps.facts import COVERED, FOR_THE_LEDGER
from agentos.apps.reference import markdown
from agentos.evidence.ledger.model import PERSONS


def page() -> str:
    """The page as text."""
    body = [
        "# Facts\n",
        "What happened, as it stands in the [ledger](../audit.md) and as outside systems that subscribed are told:\n"
        "ids, digests and times, never content. A fact may stand for several things, and is shown with each. `key` is\n"
        "what `agentos audit search --key` looks for; in bold who did it, which `--person` looks for.\n",
    ]
    for what, kinds in COVERED.items():
        rows = []
        for kind in kinds:
            names = [field.name for field in dataclasses.fields(kind)]
            by = next((name for name in PERSONS if name in names), "")
            told = ", ".join(f"**`{name}`**" if name == by else f"`{name}`" for name in names)
            rows.append((f"`{kind.__name__}`", markdown.guarantee(kind), f"`{kind.key_field}`", told))
        body += [f"## {what.capitalize()}\n", *markdown.table(("fact", "what happened", "key", "what it says"), rows)]
    outside = ", ".join(f"`{kind.__name__}`" for kind in FOR_THE_LEDGER)
    return markdown.page(
        [*body, f"\nFor the ledger alone, as there are so many that nobody could be told of each: {outside}.\n"]
    )
