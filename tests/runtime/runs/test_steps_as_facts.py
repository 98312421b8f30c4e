"""What a run decided and did of skills is a fact in the very transaction that journals it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from agentos.control.policy.model import EffectClass
from agentos.runtime.skills import Retry, SkillContext, declaring
from agentos.runtime.skills.model import Reversibility
from tests.runtime.runs.harness import DONE, Harness, calls


async def steps(held: Harness, run_id: str) -> list[dict[str, Any]]:
    async with held.doors.open(held.organization) as work:
        rows = await work.all(
            text("SELECT body FROM outbox WHERE name = 'StepsJournaled' AND key = :run ORDER BY txid, seq"),
            {"run": run_id},
        )
    return [step for row in rows for step in row.body["steps"]]


async def test_every_row_of_a_skill_is_told_once_with_its_decision_and_its_digests(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("note", 2)), calls(("wipe", 3)), DONE], ["look", "note", "wipe"], tier="L0")
    run = await held.finish(await held.start())
    told = await steps(held, run.id)
    async with held.doors.open(held.organization) as work:
        rows = await work.all(
            text(
                "SELECT seq, key, phase, status, meta FROM journal "
                "WHERE run_id = :run AND kind IN ('skill', 'ask', 'draft') ORDER BY seq"
            ),
            {"run": run.id},
        )
    assert [(one["seq"], one["key"], one["phase"], one["status"], one["meta"]) for one in told] == [
        tuple(row) for row in rows
    ]
    assert {one["status"] for one in told} == {"ok", "denied"}
    assert all("rule" in one["meta"] for one in told)
    assert all(one["content"].startswith("sha256:") for one in told)


async def test_a_step_says_which_secrets_it_was_given_and_never_what_they_are(held: Harness) -> None:
    async def whisper(context: SkillContext, to: str) -> dict[str, Any]:
        context.secret("of-its-own")
        return {"heard": len(context.secret(to.removeprefix("secret://")))}

    whisper.__annotations__ = {"context": SkillContext, "to": str, "return": dict[str, Any]}
    retry = Retry(1, timedelta(milliseconds=1), 1.0, timedelta(milliseconds=5))
    declared = declaring.Declared(
        whisper, "whisper", "1", EffectClass.S1, Reversibility.REVERSIBLE, True, "300ms", retry, None
    )
    held.parts.registry.add(declaring.build(declared))
    held.parts.secret = lambda _name: "hush-hush"
    await held.agent([{"calls": [{"skill": "whisper", "arguments": {"to": "secret://named"}}]}, DONE], ["whisper"])
    run = await held.finish(await held.start())
    intent, result = await steps(held, run.id)
    assert intent["meta"]["secrets"] == ["named"]
    assert result["meta"]["secrets"] == ["named", "of-its-own"]
    assert "hush-hush" not in str([intent, result])
