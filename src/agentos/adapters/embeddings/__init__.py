"""What makes vectors of texts: in this process without any model, or at an endpoint that speaks OpenAI's format."""

from __future__ import annotations

from collections.abc import Callable

from agentos.adapters.embeddings.endpoint import EndpointEmbeddings
from agentos.adapters.embeddings.lexical import LexicalEmbeddings
from agentos.adapters.embeddings.settings import EmbeddingSettings
from agentos.evidence.artifacts.ports import Embeddings


def embeddings(settings: EmbeddingSettings, secret: Callable[[str], str], *, live: bool) -> Embeddings:
    """The endpoint where one is set, else the lexical ones. ``live``: whether anything outside may be asked."""
    return EndpointEmbeddings(settings, secret, live=live) if settings.url else LexicalEmbeddings()
