"""Units as people write them: durations such as ``90s``, ``1h30m`` or ``500ms``, and money such as ``12.50``.

Money is a whole number of millionths of a US dollar everywhere but where people read or write it.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from agentos.kernel.errors import Invalid

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")


CURRENCY: Final = "USD"  # the one that vendors' prices are in
MICROS: Final = 1_000_000  # millionths in a dollar
MOST_MONEY: Final = 10**9 * MICROS  # a thousand million dollars: more is a slip of the finger

_MONEY: Final = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,6}))?(?:\s+([A-Za-z]{3}))?", re.ASCII)


class MalformedMoney(Invalid):
    """An amount that is not a number of dollars, is negative or too large."""

    code = "malformed_money"


class CurrencyUnknown(Invalid):
    """Money in another currency than US dollars, in which the vendors' prices are."""

    code = "currency_unknown"


class MalformedDuration(Invalid):
    """A duration that is not written as number and unit."""

    code = "malformed_duration"


def duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``1h30m``, ``500ms`` or ``2w``. Raises MalformedDuration (Invalid)."""
    total, end = timedelta(), 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise MalformedDuration(
            f"'{text[:40]}' is not a duration", then="Write a number and ms, s, m, h, d or w, for example 90s or 1h30m."
        )
    return total


def written(length: timedelta) -> str:
    """Write a duration the way ``duration`` reads it, in the largest units that divide it."""
    left, parts = round(length / timedelta(milliseconds=1)), []
    for unit in ("w", "d", "h", "m", "s", "ms"):
        size = _UNITS[unit] // timedelta(milliseconds=1)
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts) or "0s"


def micros(text: str, *, where: str = "") -> int:
    """Read an amount such as ``12.50`` or ``12.50 USD``, in millionths. Raises MalformedMoney or CurrencyUnknown."""
    found = _MONEY.fullmatch(text.strip())
    if found is None:
        raise MalformedMoney(
            f"'{text[:40]}' is not an amount of money", where=where, then="Write dollars, as 12.50; 6 decimals at most."
        )
    sign, whole, part, currency = found.groups()
    if currency and currency.upper() != CURRENCY:
        raise CurrencyUnknown(f"money is in {CURRENCY} here, not {currency}", where=where, then="Convert the amount.")
    amount = int(whole) * MICROS + int((part or "").ljust(6, "0"))
    if sign and amount:
        raise MalformedMoney(f"'{text[:40]}' is negative", where=where, then="Write 0 or more.")
    if amount > MOST_MONEY:
        raise MalformedMoney(f"'{text[:40]}' is over {dollars(MOST_MONEY)}", where=where, then="Write less.")
    return amount


def dollars(amount: int) -> str:
    """Write millionths the way ``micros`` reads them, with two decimals at least."""
    whole, part = divmod(abs(amount), MICROS)
    return f"{'-' if amount < 0 else ''}{whole}.{f'{part:06}'.rstrip('0').ljust(2, '0')}"
