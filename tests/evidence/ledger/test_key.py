"""A ledger keeps the key that its chains were made with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentos.apps.bootstrap import make_ledger_key
from agentos.kernel.ids import OrgId
from agentos.kernel.seals import LedgerKey, LedgerKeyLost
from agentos.kernel.settings import DatabaseSettings
from tests.conftest import new_database
from tests.evidence.ledger.conftest import Books


async def test_no_new_key_is_made_for_chains_whose_key_is_lost(
    books: Books, organization: OrgId, tmp_path: Path
) -> None:
    await books.toss(organization, 1)
    await books.chain()
    file = tmp_path / "lost.key"
    settings = DatabaseSettings(url=SecretStr(books.url), pool_size=2, ledger_key=str(file))
    with pytest.raises(LedgerKeyLost, match="is not there"):
        await make_ledger_key(settings)
    assert not file.exists()


async def test_a_ledger_without_a_chain_gets_a_key_and_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "first.key"
    url = await new_database(f"keyless_{os.getpid()}")
    settings = DatabaseSettings(url=SecretStr(url), pool_size=2, ledger_key=str(file))
    await make_ledger_key(settings)
    key = LedgerKey.load(file)
    await make_ledger_key(settings)
    assert LedgerKey.load(file).seals == key.seals
