"""What every contender asks a model, and what the fake vendors answer. Standard library only.

A call ends when the whole answer is there, and says who gave it. It asks one model (``plain``), or a second one where
the first fails (``chain``).
"""

from __future__ import annotations

FIRST, SECOND = "claude-bench", "gpt-bench"
KEY = "sk-ant-fake-0123456789"
SYSTEM, TEXT, MOST_TOKENS = "Answer in one sentence.", "What is the capital of France?", 64
TOLD = "The capital of France is Paris, as it has been for centuries."


def by(model: str, text: str) -> str:
    """Who gave an answer. Raises ValueError for one that is not whole."""
    if text != TOLD:
        raise ValueError(f"an answer of {len(text)} characters")
    return "first" if FIRST in model else "second"
