"""What a model's tokens cost: as the organization says, else as genai-prices knew when it was released. Offline.

The library's data are read in when the first priced model is met, since that takes a third of a second; nothing is ever
fetched. What differs from the list price (a gateway's, a discount, a self-hosted model's) is the organization's to say.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final

from agentos.control.budgets.model import FREE, Ceiling, ModelUnpriced, Rate, Standing, Tariff, rate

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

# Our providers by the names that the library has for them.
VENDORS: Final = {"claude": "anthropic", "openai": "openai", "openrouter": "openrouter"}
OTHERS: Final = "vendor:"  # of these the name that follows is the library's own
STUB: Final = "stub"  # computes its answers itself and bills nobody

# Prices of the kinds of tokens that our questions and answers consist of. A cache write that lasts an hour costs more,
# and is left out because no adapter asks for one.
_OUTPUT: Final = ("output_mtok", "output_text_mtok")
_REASONING: Final = ("output_reasoning_mtok", "output_text_reasoning_mtok")
_INPUT: Final = ("input_mtok", "input_text_mtok")
_READ: Final = ("cache_read_mtok", "cache_text_read_mtok")
_WRITE: Final = ("cache_write_5m_mtok", "cache_text_write_5m_mtok", "cache_write_mtok", "cache_text_write_mtok")


async def tariff_of(standing: Standing, provider: str, model: str, *, at: datetime) -> Tariff | Ceiling:
    """What calls of a model cost an organization at that time. Raises ModelUnpriced (Forbidden)."""
    own = standing.prices.get((provider, model)) or standing.prices.get((provider, "*"))
    if own is not None:
        return own.tariff
    if provider == STUB:
        return FREE
    vendor = VENDORS.get(provider) or (provider.removeprefix(OTHERS) if provider.startswith(OTHERS) else None)
    found = None if vendor is None else await asyncio.to_thread(listed, vendor, model, at)
    if found is None:
        raise ModelUnpriced(
            f"nobody knows what '{model[:100]}' of '{provider[:40]}' costs, so it is not asked",
            then=f"Say what it costs, or a ceiling for a call: agentos budgets price {provider[:40]} {model[:100]}.",
        )
    return found


def listed(vendor: str, model: str, at: datetime) -> Tariff | None:
    """A vendor's list price at that time, as the library knows it; None for a model that it does not know."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, known = get_snapshot().find_provider_model(model, None, vendor, None)
    except LookupError:
        return None
    prices = known.get_prices(at)
    into, out = _rate(prices, _INPUT), _rate(prices, _OUTPUT)
    if into is None or out is None:
        return None
    reasoning, read, write = _rate(prices, _REASONING), _rate(prices, _READ), _rate(prices, _WRITE)
    return Tariff(into, out, read or into, write or into, reasoning or out)


def _rate(prices: ModelPrice, names: tuple[str, ...]) -> Rate | None:
    """The price under the first of these names that the model has."""
    for name in names:
        found = getattr(prices, name)
        if found is not None:
            tiers = getattr(found, "tiers", ())
            return Rate(rate(getattr(found, "base", found)), tuple((one.start, rate(one.price)) for one in tiers))
    return None
