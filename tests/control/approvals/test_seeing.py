"""Nobody decides on what the skill's schema says is kept from them, and a link shows it only to who may answer now."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.control.approvals import links
from agentos.control.approvals.answers import hiding
from agentos.control.approvals.model import Approval, ApprovalDecidedAlready, ApprovalMasked, ApprovalStatus
from agentos.control.privacy.service import Privacy
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import NotAllowed, Role
from agentos.kernel.canonical import canonical
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import Signer
from tests.control.approvals.asking import NOON, Asking, asking
from tests.journeys.conftest import signing_key

NAMED = {"properties": {"who": {"type": "string", "x-personal": "name"}}}


class Loaded:
    """One schema for every version of the skills that are loaded."""

    def __init__(self, **schemas: dict[str, Any]) -> None:
        self.schemas = schemas

    def input_schema(self, name: str, _version: str) -> dict[str, Any] | None:
        return self.schemas.get(name)


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Asking:
    return await asking(database, organization)


async def answered(held: Asking, asked: Approval, loaded: Loaded, *, sees: bool) -> Approval:
    async with held.doors.open(held.organization) as work:
        hides = await hiding(work, Privacy(), loaded)
    return await held.answer(asked.id, "ann", hides=hides, sees=sees)


@pytest.mark.parametrize("loaded", [Loaded(pay=NAMED), Loaded()], ids=["annotated", "not loaded"])
async def test_whose_key_does_not_see_personal_data_decides_on_none_whatever_the_role(
    held: Asking, loaded: Loaded
) -> None:
    asked = await held.ask(arguments=canonical({"who": "Ann Lee"}))
    with pytest.raises(ApprovalMasked):
        await answered(held, asked, loaded, sees=False)
    assert (await answered(held, asked, loaded, sees=True)).status is ApprovalStatus.APPROVED


async def test_what_the_schema_knows_and_does_not_call_personal_is_decided_on(held: Asking) -> None:
    asked = await held.ask(arguments=canonical({"n": 5}))
    assert (await answered(held, asked, Loaded(pay=NAMED), sees=False)).status is ApprovalStatus.APPROVED


async def test_a_call_without_arguments_hides_nothing_also_when_its_skill_is_not_loaded(held: Asking) -> None:
    asked = await held.ask(arguments=canonical({}))
    assert (await answered(held, asked, Loaded(), sees=False)).status is ApprovalStatus.APPROVED


async def link_to(held: Asking, asked: Approval, handle: str) -> links.Link:
    signer = Signer.load(signing_key())
    async with held.doors.open(held.organization) as work:
        return links.read(signer, await links.create(work, signer, asked.id, handle=handle, at=NOON))


async def look(held: Asking, link: links.Link) -> str:
    async with held.doors.open(held.organization) as work:
        asked, person = await links.look(work, link, at=NOON)
        return f"{asked.status} {person.handle}"


@pytest.mark.parametrize(
    "change", [{"enabled": False, "role": None}, {"enabled": None, "role": Role.VIEWER}], ids=["disabled", "demoted"]
)
async def test_a_link_of_somebody_who_may_not_answer_any_more_shows_nothing(
    held: Asking, change: dict[str, Any]
) -> None:
    link = await link_to(held, await held.ask(), "carl")
    assert await look(held, link) == "pending carl"
    async with held.doors.open(held.organization) as work:
        await identity.change_person(work, "carl", **change, by="root", at=NOON)
    with pytest.raises(NotAllowed):
        await look(held, link)


async def test_a_link_shows_nothing_once_somebody_else_has_decided(held: Asking) -> None:
    asked = await held.ask()
    link = await link_to(held, asked, "ann")
    await held.answer(asked.id, "bob")
    with pytest.raises(ApprovalDecidedAlready, match="approved already"):
        await look(held, link)
