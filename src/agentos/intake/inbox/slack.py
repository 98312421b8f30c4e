"""What Slack sends when somebody presses a button: whether it is Slack's, and what was pressed.

The signature is Slack's v0: HMAC-SHA256 over time and body, at most 300 s old, compared in constant time by Slack's own
library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qs

from slack_sdk.signature import Clock, SignatureVerifier

from agentos.intake.inbox.model import BadSlackAction

MOST_BYTES: Final = 64 * 1024  # an action comes with its message, whose texts are 3,000 characters each
WINDOW: Final = timedelta(seconds=300)  # Slack's own advice, and what its library allows
CHOICES: Final = {"approve": True, "deny": False}
MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Action:
    """A button that somebody pressed. ``approved`` is None for a button that is no answer, such as a link."""

    team_id: str
    user_id: str
    approved: bool | None
    about: str
    pressed_at: str  # Slack's own time of it, which tells one press from another


class _At(Clock):
    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> float:
        return self._at.timestamp()


def read_action(body: bytes) -> Action:
    """What was pressed, as an unverified body says. Raises BadSlackAction (Invalid)."""
    try:
        (payload,) = parse_qs(body.decode(), max_num_fields=10, strict_parsing=True)["payload"]
        said = json.loads(payload)
        if said["type"] != "block_actions":
            raise BadSlackAction("only presses of buttons are taken", where="type")
        (pressed,) = said["actions"]
        words = (said["team"]["id"], said["user"]["id"], pressed["action_id"], pressed["action_ts"])
        about = pressed.get("value", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadSlackAction("this is no action as Slack sends it", then="Let Slack send it.") from None
    if not all(isinstance(word, str) and 0 < len(word) <= 100 for word in words) or not isinstance(about, str):
        raise BadSlackAction("this is no action as Slack sends it", then="Let Slack send it.")
    team, user, choice, at = words
    return Action(team, user, CHOICES.get(choice), about[:100], at)


def signed(secret: str, headers: Mapping[str, str], body: bytes, *, at: datetime) -> bool:
    """Whether the body was signed with this secret, not longer ago than the window."""
    said = {name.lower(): value for name, value in headers.items()}
    stamp, signature = said.get("x-slack-request-timestamp", ""), said.get("x-slack-signature", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12 and signature.isascii()):
        return False
    try:
        return SignatureVerifier(secret, _At(at)).is_valid(body, stamp, signature)
    except UnicodeDecodeError:
        return False


def late(headers: Mapping[str, str], *, at: datetime) -> bool:
    """Whether the call says of itself that it is older than the window."""
    stamp = {name.lower(): value for name, value in headers.items()}.get("x-slack-request-timestamp", "")
    known = stamp.isascii() and stamp.isdigit() and len(stamp) <= 12
    return known and abs(at.timestamp() - int(stamp)) > WINDOW.total_seconds()
