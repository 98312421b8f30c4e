"""Anthropic's Messages as a client speaks them: a body as what is wanted, an answer as its body or events. Pure.

Thinking. Signed blocks of a model's thinking are told to the client at their place, and come back in its next request;
they reach the provider that they came from and nobody else. In a stream they must stand before the text that followed
them, so an answer with thinking is streamed when it is whole.
"""

from __future__ import annotations

from typing import Final

from agentos.runtime.gateway.messages.asked import read
from agentos.runtime.gateway.messages.told import Events, refusal, shown
from agentos.runtime.gateway.ports import Form

FORM: Final = Form(read, shown, Events, refusal)
