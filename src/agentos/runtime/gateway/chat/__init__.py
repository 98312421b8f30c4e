"""OpenAI's chat completions as a client speaks them: a body as what is wanted, an answer whole or in chunks. Pure."""

from __future__ import annotations

from typing import Final

from agentos.runtime.gateway.chat.asked import read
from agentos.runtime.gateway.chat.told import Chunks, refusal, shown
from agentos.runtime.gateway.ports import Form

FORM: Final = Form(read, shown, Chunks, refusal)
