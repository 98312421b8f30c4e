"""Whether a call is Slack's, decided without a clock; the first is the example of Slack's own documentation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agentos.intake.inbox.slack import late, signed

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
HEADERS = {
    "X-Slack-Request-Timestamp": "1531420618",
    "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}
SENT = datetime.fromtimestamp(1531420618, UTC)


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_signature_is_good_for_300_seconds(seconds: int, good: bool) -> None:
    at = SENT + timedelta(seconds=seconds)
    assert signed(SECRET, HEADERS, BODY, at=at) is good
    assert late(HEADERS, at=at) is not good


@pytest.mark.parametrize(
    ("headers", "body", "secret"),
    [
        (HEADERS, BODY + b"x", SECRET),
        (HEADERS, BODY, "another"),
        (HEADERS, b"\xff", SECRET),
        ({**HEADERS, "X-Slack-Signature": ""}, BODY, SECRET),
        ({**HEADERS, "X-Slack-Signature": "v0=ä"}, BODY, SECRET),
        ({**HEADERS, "X-Slack-Request-Timestamp": "1531420619"}, BODY, SECRET),
        ({**HEADERS, "X-Slack-Request-Timestamp": "²"}, BODY, SECRET),
        ({}, BODY, SECRET),
    ],
)
def test_anything_else_is_not(headers: dict[str, str], body: bytes, secret: str) -> None:
    assert not signed(secret, headers, body, at=SENT)
