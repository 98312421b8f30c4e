"""A proof of stop tells by commits what was before the order, on the wire and after it; and it is signed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.stops import service as stops
from agentos.control.stops.model import Stop, StopKind, StopScope, StopUnknown, Wanted
from agentos.evidence.effects import service
from agentos.evidence.effects.model import EffectAfterStop, NothingToProve, Proof, ProofRefused
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import ForeignKey, NotSigned, SignatureWrong, Signer, make_key
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_key(tmp_path / "key.pem")
    return Signer.load(tmp_path / "key.pem")


async def kill(held: Harness, kind: StopKind = StopKind.KILL) -> Stop:
    async with held.doors.open(held.organization) as work:
        return await stops.order(work, Wanted(kind, StopScope.ORGANIZATION), by="commander")


async def prove(held: Harness, stop: Stop) -> Proof:
    async with held.doors.open(held.organization) as work:
        return await service.proof(work, stop.id)


async def killed_on_the_wire(held: Harness) -> Stop:
    """A run whose second effect was on the wire when the order came, and was answered."""
    ordered: list[Stop] = []

    async def order(_given: dict[str, Any]) -> dict[str, Any]:
        ordered.append(await kill(held))
        return {}

    await held.agent([calls(("note", 1), ("note", 2), ("note", 3)), DONE])
    held.world.next("note", lambda _: {}, order)
    await held.segment(await held.start())
    return ordered[0]


async def test_it_names_the_last_effect_what_was_on_the_wire_and_that_nothing_came_after(held: Harness) -> None:
    stop = await killed_on_the_wire(held)
    found = await prove(held, stop)
    assert found.last_before is not None
    assert found.last_before.step == "t0.c1"
    assert [(one.step, one.send, one.became) for one in found.on_the_wire] == [("t0.c1", 1, "ok")]
    assert found.after == ()
    assert (found.brought_to_rest, found.held_before_working) == (1, 0)
    assert found.last_at_rest is not None
    assert found.last_at_rest > stop.ordered_at


async def test_a_call_whose_end_nobody_knows_is_unknown_until_it_is_settled(held: Harness) -> None:
    async def lost(_given: dict[str, Any]) -> dict[str, Any]:
        raise asyncio.CancelledError

    await held.agent([calls(("note", 1)), DONE])
    held.world.next("note", lost)
    with pytest.raises(asyncio.CancelledError):
        await held.segment(run_id := await held.start())
    stop = await kill(held)
    await held.segment(run_id)
    (one,) = (await prove(held, stop)).on_the_wire
    assert (one.became, one.run_waits_for) == (None, "stopped")
    async with held.doors.open(held.organization) as work:
        await stops.lift(work, stop.id, by="commander")
    await held.finish(run_id, 2)
    found = await prove(held, stop)
    assert [one.became for one in found.on_the_wire] == ["ok"]
    assert found.after == (), "what was sent after the lift is not of the stop"


async def test_an_effect_that_was_committed_after_the_order_is_found_whatever_its_clock_says(held: Harness) -> None:
    """No code of ours can commit one; somebody with the owner's rights, or a broken release, could."""
    stop = await killed_on_the_wire(held)
    async with held.doors.open(held.organization) as work:
        await work.run(
            text(
                "INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, segment, attempt, at, meta) "
                "SELECT org, run_id, 99, 't9.c0~1', phase, kind, name, status, segment, attempt, "
                "CAST(:at AS timestamptz) - interval '1 hour', meta FROM journal WHERE key = 't0.c0~1'"
            ),
            {"at": stop.ordered_at},
        )
    assert [one.step for one in (await prove(held, stop)).after] == ["t9.c0"]


async def test_effects_before_many_transactions_are_before_still(held: Harness, signer: Signer) -> None:
    stop = await killed_on_the_wire(held)
    for _ in range(50):
        async with held.doors.open(held.organization) as work:
            await work.all(text("SELECT pg_current_xact_id()"))
    assert signer.sign((await prove(held, stop)).document())["holds"] is True


async def test_the_signed_document_is_checked_offline(held: Harness, signer: Signer, tmp_path: Path) -> None:
    document = json.loads(json.dumps(signer.sign((await prove(held, await killed_on_the_wire(held))).document())))
    said = service.check(document, pinned=signer.public_key)
    assert (said["valid"], said["effects_after"], said["on_the_wire"]) == (True, 0, 1)
    with pytest.raises(SignatureWrong):
        service.check({**document, "on_the_wire": []})
    with pytest.raises(NotSigned):
        service.check({key: value for key, value in document.items() if key != "signature"})
    make_key(tmp_path / "other.pem")
    other = Signer.load(tmp_path / "other.pem")
    with pytest.raises(ForeignKey):
        service.check(document, pinned=other.public_key)


async def test_a_proof_that_contradicts_itself_or_holds_not_is_refused(held: Harness, signer: Signer) -> None:
    document = (await prove(held, await killed_on_the_wire(held))).document()
    later = [{**document["on_the_wire"][0], "committed_at": "2999-01-01T00:00:00+00:00"}]
    for wrong in ({"type": "other"}, {"on_the_wire": later}, {"holds": False}, {"stop": {}}):
        with pytest.raises(ProofRefused):
            service.check(signer.sign({**document, **wrong}))
    with pytest.raises(EffectAfterStop):
        service.check(signer.sign({**document, "effects_after": later, "holds": False}))


async def test_only_a_kill_or_a_pause_has_a_proof(held: Harness) -> None:
    stop = await kill(held, StopKind.DEGRADE)
    with pytest.raises(NothingToProve):
        await prove(held, stop)
    async with held.doors.open(held.organization) as work:
        with pytest.raises(StopUnknown):
            await service.proof(work, "stop_nothing")
