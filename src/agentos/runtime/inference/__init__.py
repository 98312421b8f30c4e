"""Ask a model. In: a conversation and the skills it may call. Out: a text or calls, with what they cost.

Adapters for each vendor live in ``adapters/llm``; this feature knows only the port.
"""

from agentos.runtime.inference.model import Answer, Call, Image, Message, Opaque, Result, Stop, Tool, Usage
from agentos.runtime.inference.ports import Hear, Model, Question

__all__ = [
    "Answer",
    "Call",
    "Hear",
    "Image",
    "Message",
    "Model",
    "Opaque",
    "Question",
    "Result",
    "Stop",
    "Tool",
    "Usage",
]
