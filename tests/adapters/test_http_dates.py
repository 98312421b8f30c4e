"""When a peer wants to be asked again, whatever it says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentos.adapters.http_dates import retry_after

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("7", timedelta(seconds=7)),
        ("-7", timedelta()),
        ("nan", timedelta()),
        ("1e12", DAY),
        ("1e300", DAY),
        ("inf", DAY),
        ("Wed, 21 Oct 2026 07:28:10 GMT", timedelta(seconds=10)),
        ("Fri, 21 Oct 9026 07:28:00 GMT", DAY),
        ("soon", None),
    ],
)
def test_a_peer_is_left_alone_for_a_day_at_most(said: str, wait: timedelta | None) -> None:
    assert retry_after({"retry-after": said, "date": "Wed, 21 Oct 2026 07:28:00 GMT"}) == wait
