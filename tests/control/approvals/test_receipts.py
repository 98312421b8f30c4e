"""A receipt agrees with itself, or it is refused, whoever signed it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos.control.approvals import receipts, service
from agentos.control.approvals.model import NotDecided, ReceiptRefused
from agentos.control.policy.model import EffectClass
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import Signer, make_key
from tests.control.approvals.asking import Asking, asking


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_key(tmp_path / "key.pem")
    return Signer.load(tmp_path / "key.pem")


async def receipt(held: Asking, signer: Signer, approval_id: str) -> dict[str, Any]:
    async with held.doors.open(held.organization) as work:
        answers = await service.answers(work, approval_id)
        return receipts.receipt(signer, held.organization, await service.get(work, approval_id), answers)


def another_digest(told: dict[str, Any]) -> None:
    told["arguments_digest"] = "sha256:" + "7" * 64


def one_person(told: dict[str, Any]) -> None:
    del told["answers"][1]


def twice_the_same(told: dict[str, Any]) -> None:
    told["answers"][1] = told["answers"][0]


def a_starter(told: dict[str, Any]) -> None:
    told["answers"][1]["person"] = "author"


def fewer_needed(told: dict[str, Any]) -> None:
    told["requirement"]["needed"] = 1
    told["requirement"]["stages"][0]["needed"] = 1


def of_another_kind(told: dict[str, Any]) -> None:
    told["type"] = "proof_of_stop"


def without_parts(told: dict[str, Any]) -> None:
    del told["skill"]


CHANGES = [another_digest, one_person, twice_the_same, a_starter, fewer_needed, of_another_kind, without_parts]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_receipt_that_says_what_cannot_be_is_refused_although_it_is_signed(
    database: Database, organization: OrgId, signer: Signer, change: Callable[[dict[str, Any]], None]
) -> None:
    held = await asking(database, organization)
    asked = await held.ask(effect=EffectClass.S4, needed=2)
    with pytest.raises(NotDecided):
        await receipt(held, signer, asked.id)
    await held.answer(asked.id, "ann", note="agreed")
    await held.answer(asked.id, "bob")
    told = await receipt(held, signer, asked.id)
    assert receipts.check(told, pinned=signer.public_key)["approved_by"] == ["ann", "bob"]
    assert "agreed" not in str(told), "ids and digests, never content"
    forged = copy.deepcopy(told)
    change(forged)
    with pytest.raises(ReceiptRefused):
        receipts.check(signer.sign(forged))


async def test_a_denial_and_an_end_have_receipts_too(database: Database, organization: OrgId, signer: Signer) -> None:
    held = await asking(database, organization)
    denied, expired = await held.ask(), await held.ask(step="t0.c1")
    await held.answer(denied.id, "ann", False)
    await held.advance(expired.id, expired.expires_at)
    assert receipts.check(await receipt(held, signer, denied.id))["denied_by"] == ["ann"]
    found = receipts.check(await receipt(held, signer, expired.id))
    assert (found["status"], found["approved_by"], found["pinned"]) == ("expired", [], False)
