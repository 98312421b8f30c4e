"""What a call costs: the organization's word, else the list's; at most what is reserved; nothing unpriced is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.control.budgets import service
from agentos.control.budgets.model import (
    BudgetInvalid,
    Ceiling,
    ModelUnpriced,
    Price,
    Rate,
    Standing,
    Tariff,
    Tokens,
)
from agentos.control.budgets.prices import listed, tariff_of
from agentos.kernel.errors import Invalid
from agentos.kernel.units import MICROS, CurrencyUnknown, MalformedMoney, dollars, micros

AT = datetime(2026, 11, 21, tzinfo=UTC)
COUNTS = st.integers(0, 400_000)


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-8", "claude-haiku-5-5", "claude-3-haiku"])
@settings(deadline=None)  # the first example reads the list
@given(fresh=COUNTS, read=COUNTS, write=COUNTS, output=COUNTS)
def test_a_call_costs_what_the_list_says(model: str, fresh: int, read: int, write: int, output: int) -> None:
    tariff = listed("anthropic", model, AT)
    assert tariff is not None
    used = Tokens(fresh + read + write, output, read, write)
    usage = Usage(input_tokens=used.input, output_tokens=output, cache_read_tokens=read, cache_write_tokens=write)
    price = calc_price(usage, model, provider_id="anthropic", genai_request_timestamp=AT)
    exact = price.total_price * MICROS
    assert exact <= tariff.cost(used) < exact + 1


RATES = st.builds(
    Rate,
    st.integers(0, 10**8),
    st.lists(st.tuples(COUNTS, st.integers(0, 10**8)), max_size=2).map(lambda t: tuple(sorted(t))),
)


@given(st.builds(Tariff, RATES, RATES, RATES, RATES, RATES), COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 10), COUNTS)
def test_no_call_costs_more_than_its_most(
    tariff: Tariff, fresh: int, read: int, write: int, output: int, slack: int, more: int
) -> None:
    used = Tokens(fresh + read + write, output, read, write)
    assert tariff.cost(used) <= tariff.most(used.input + slack, output + more)


async def test_an_unpriced_model_is_refused_unless_somebody_says_what_it_costs() -> None:
    for provider, model in (("claude", "gpt-nothing"), ("elsewhere", "any")):
        with pytest.raises(ModelUnpriced, match="nobody knows"):
            await tariff_of(Standing(), provider, model, at=AT)
    own = Price("elsewhere", "*", call_ceiling=50_000)
    standing = Standing(0, frozenset(), {("elsewhere", "*"): own})
    assert await tariff_of(standing, "elsewhere", "any", at=AT) == Ceiling(50_000)


async def test_the_organizations_word_goes_before_the_list() -> None:
    own = Price("claude", "claude-opus-4-8", input=1, output=2)
    standing = Standing(0, frozenset(), {("claude", "claude-opus-4-8"): own})
    mine = await tariff_of(standing, "claude", "claude-opus-4-8", at=AT)
    others = await tariff_of(standing, "claude", "claude-opus-4-7", at=AT)
    assert isinstance(mine, Tariff)
    assert isinstance(others, Tariff)
    assert (mine.input.base, mine.cache_write.base, others.input.base) == (1, 1, 5 * MICROS)


async def test_the_stub_is_free_unless_somebody_prices_it() -> None:
    free = await tariff_of(Standing(), "stub", "", at=AT)
    assert free.most(10**6, 10**6) == 0


def test_a_reserve_is_made_at_the_dearest_rate_that_may_apply() -> None:
    tariff = listed("anthropic", "claude-sonnet-4-5", AT)
    assert tariff is not None
    # A cache write costs 3.75 dollars for a million tokens where plain input costs 3; over 200,000 tokens 7.50.
    assert tariff.most(100_000, 1_000) == 375_000 + 15_000
    assert tariff.most(300_000, 1_000) == 2_250_000 + 22_500
    reasoning = Tariff(Rate(1), Rate(2), Rate(0), Rate(0), Rate(5))
    assert reasoning.most(0, MICROS) == 5


@given(st.integers(0, 10**15))
def test_money_is_read_as_it_is_written(amount: int) -> None:
    assert micros(dollars(amount)) == amount
    assert Decimal(dollars(amount)) * MICROS == amount


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("-1", MalformedMoney, "negative"),
        ("1.0000001", MalformedMoney, "not an amount"),
        ("1e9", MalformedMoney, "not an amount"),
        ("nan", MalformedMoney, "not an amount"),
        ("", MalformedMoney, "not an amount"),
        ("١", MalformedMoney, "not an amount"),
        ("1000000001", MalformedMoney, "over 1000000000.00"),
        ("5 EUR", CurrencyUnknown, "not EUR"),
    ],
)
def test_money_that_is_none_is_refused_with_its_place(text: str, error: type[Invalid], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        service.limits(text, None, None, None)
    assert refused.value.where == "money"


def test_counts_and_currencies_that_cannot_be_are_refused_with_their_place() -> None:
    with pytest.raises(BudgetInvalid, match="negative") as negative:
        service.limits(None, -1, None, None)
    with pytest.raises(BudgetInvalid, match="over") as large:
        service.limits(None, None, None, 10**16)
    with pytest.raises(CurrencyUnknown) as foreign:
        service.limits("1", None, None, None, currency="EUR")
    assert [one.value.where for one in (negative, large, foreign)] == ["tokens", "seconds", "currency"]


@pytest.mark.parametrize(
    ("amounts", "where"),
    [
        ({"input": "1"}, "output"),
        ({"output": "1", "cache_read": "1"}, "input"),
        ({"input": "1", "output": "1", "call_ceiling": "1"}, "call_ceiling"),
    ],
)
def test_a_price_is_rates_or_a_ceiling(amounts: dict[str, str | None], where: str) -> None:
    with pytest.raises(BudgetInvalid) as refused:
        service.price("elsewhere", "any", amounts)
    assert refused.value.where == where


def test_no_amount_takes_a_price_back() -> None:
    assert service.price("elsewhere", "any", {"input": None}) is None
