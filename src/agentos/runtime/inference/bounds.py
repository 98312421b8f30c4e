"""How many tokens a question can be at most, without asking a tokenizer.

Models read byte-level vocabularies: every token stands for at least one byte of the text in UTF-8, so a text has at
most as many tokens as bytes. What a vendor adds (marks between blocks, a preamble when there are tools) stands for no
byte of ours and is bounded by a sum for each block and one for the call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from agentos.runtime.inference.ports import Question

# The wire's own words for a block are below 60 bytes longer than ours, and vendors mark a block by a few tokens.
BLOCK_TOKENS: Final = 64
CALL_TOKENS: Final = 1024  # vendors' preambles for tools are documented at 300 to 700 tokens
IMAGE_TOKENS: Final = 49_152  # a picture is worth its size, not its bytes; most documented: 2,833 + 8 × 5,667 tokens


BYTES_PER_TOKEN: Final = 4  # the usual rule of thumb for English


def about_tokens(question: Question) -> int:
    """About how many tokens a question is, by its bytes. To choose a model by; nothing is bounded by it."""
    return -(-len(msgspec.json.encode((question.system, question.tools, question.messages))) // BYTES_PER_TOKEN)


def most_tokens(question: Question, known: tuple[int, int] | None = None) -> int:
    """An upper bound of the tokens that a provider counts as input of the question.

    ``known``: the provider counted this many input tokens for the first so many messages of it, under the same system
    text and tools. Then only what came after is bounded by its bytes.
    """
    already, tokens = known if known is not None else (0, CALL_TOKENS)
    new = question.messages[already:]
    blocks = sum(1 + len(message.calls) + len(message.results) for message in new)
    size = len(msgspec.json.encode([replace(one, images=()) if one.images else one for one in new]))
    pictures = sum(len(message.images) for message in new)
    if known is None:
        size += len(msgspec.json.encode((question.system, question.tools, question.schema)))
        blocks += 1 + len(question.tools)
    return tokens + size + BLOCK_TOKENS * (blocks + 1) + IMAGE_TOKENS * pictures
