"""What a model is told when its version wants personal data kept from it. The calls that it asks for are not touched:
what executes is what the model said, and what the model was told before is masked only in the telling.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentos.control.agents.model import Definition
from agentos.control.privacy import service as privacy
from agentos.control.privacy.model import Counts, Rules, told
from agentos.control.privacy.service import Privacy
from agentos.runtime.inference import Call, Message, Result
from agentos.runtime.skills import Skill


@dataclass(slots=True)
class Prompts:
    """The conversation of one segment as its model is told it. Each message is looked through once."""

    privacy: Privacy
    rules: Rules
    definition: Definition
    skills: Mapping[str, Skill]
    given: bytes  # the run's input
    masked: list[Message] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)  # the skill of each call, by the model's id of it

    async def of(self, conversation: tuple[Message, ...]) -> tuple[tuple[Message, ...], dict[str, int]]:
        """The conversation as the model is told it, and what was kept back from the messages that are new in it."""
        counts: Counts = Counter()
        for message in conversation[len(self.masked) :]:
            if not self.masked:
                value = await self._value(json.loads(self.given), self.definition.input_schema, counts)
                self.masked.append(Message("user", input_text(json.dumps(value, ensure_ascii=False).encode())))
                continue
            self.called |= {call.id: call.skill for call in message.calls}
            self.masked.append(
                replace(
                    message,
                    text=await self._value(message.text, None, counts),
                    calls=tuple([await self._call(one, counts) for one in message.calls]),
                    results=tuple([await self._result(one, counts) for one in message.results]),
                )
            )
        return tuple(self.masked), told(counts)

    async def _call(self, call: Call, counts: Counts) -> Call:
        one = self.skills.get(call.skill)
        arguments = await self._value(call.arguments, None if one is None else one.input_schema, counts)
        return replace(call, arguments=arguments)

    async def _result(self, result: Result, counts: Counts) -> Result:
        one = self.skills.get(self.called.get(result.call_id, ""))
        try:
            value = json.loads(result.text)
        except ValueError:
            return replace(result, text=await self._value(result.text, None, counts))
        shown = await self._value(value, None if one is None else one.output_schema, counts)
        return result if shown == value else replace(result, text=json.dumps(shown, ensure_ascii=False))

    async def _value(self, value: Any, schema: Mapping[str, Any] | None, counts: Counts) -> Any:
        shown, found = await privacy.redacted(self.privacy, self.rules, value, place="prompts", schema=schema)
        counts += found
        return shown


def input_text(data: bytes) -> str:
    """The input as the model reads it: the bare task where there is nothing else, JSON otherwise."""
    given = json.loads(data)
    if isinstance(given, dict) and list(given) == ["task_description"]:
        return str(given["task_description"])
    return data.decode()
