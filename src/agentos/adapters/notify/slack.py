"""Messages to people in Slack, as direct messages of the organization's bot.

Buttons are there when the message shows all of the arguments; else a link leads to them. Texts stand in plain or
preformatted blocks, so that nothing an agent wrote is read as markup. When a question is decided, its buttons go.
The library is loaded with the first message, since it takes 4 MB of a process and not every installation has Slack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from agentos.adapters.http_dates import retry_after
from agentos.adapters.notify.settings import SlackSettings
from agentos.kernel.errors import NotFound
from agentos.operations.notifications.model import Answer, Letter

if TYPE_CHECKING:
    from slack_sdk.errors import SlackApiError

WAIT_SECONDS: Final = 10
# Errors that another try cannot help, and those that a person with the bot's token has to look at.
FINAL: Final = frozenset({"channel_not_found", "user_not_found", "users_not_found", "user_disabled", "is_archived"})
HELD: Final = frozenset(
    {"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope"}
)


class Slack:
    """The way by Slack's Web API."""

    def __init__(self, settings: SlackSettings, secret: Callable[[str], str]) -> None:
        self._api = settings.api
        self._secret = secret

    async def send(self, letter: Letter) -> Answer:
        """Post one message, or put it in the place of those that it follows."""
        from slack_sdk.errors import SlackApiError, SlackClientError
        from slack_sdk.web.async_client import AsyncWebClient

        if not letter.token:
            return Answer(False, "slack_workspace_unknown", "no Slack workspace is connected", held=True)
        try:
            token = self._secret(letter.token.removeprefix("secret://"))
        except NotFound as error:
            return Answer(False, error.code, str(error), held=True)
        client = AsyncWebClient(token, self._api, WAIT_SECONDS, retry_handlers=[])
        said: dict[str, Any] = {
            "text": _escaped(letter.subject),
            "blocks": blocks(letter),
            "metadata": {"event_type": "agentos_notification", "event_payload": {"id": letter.id}},
        }
        try:
            for receipt in letter.receipts:
                channel, _, ts = receipt.partition(" ")
                await client.chat_update(channel=channel, ts=ts, **said)
            if letter.receipts:
                return Answer(True, receipt=letter.receipts[-1])
            posted = await client.chat_postMessage(channel=letter.to, unfurl_links=False, **said)
            return Answer(True, receipt=f"{posted['channel']} {posted['ts']}")
        except SlackApiError as error:
            return _refused(error)
        except TimeoutError:
            return Answer(False, "slack_timeout", f"no answer within {WAIT_SECONDS} s")
        except (SlackClientError, aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(False, "slack_unreachable", type(error).__name__)


def blocks(letter: Letter) -> list[dict[str, Any]]:
    """The message in Slack's blocks."""
    made: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(letter.subject[:150])},
        {"type": "section", "text": _plain("\n".join(letter.lines)[:3000])},
    ]
    if letter.shown:
        shown = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": letter.shown}]}
        made.append({"type": "rich_text", "elements": [shown]})
    buttons = [_button("open", "Open", url=letter.link)]
    if letter.shown and letter.kind.asks:
        approve = _button("approve", "Approve", style="primary", value=letter.about)
        buttons = [approve, _button("deny", "Deny", style="danger", value=letter.about), *buttons]
    made.append({"type": "actions", "elements": buttons})
    return made


def _button(action: str, says: str, **given: str) -> dict[str, Any]:
    return {"type": "button", "action_id": action, "text": _plain(says), **given}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _refused(error: SlackApiError) -> Answer:
    response: Any = error.response
    data = response.data if isinstance(response.data, dict) else {}
    code = str(data.get("error", ""))[:64] or f"http_{response.status_code}"
    wait = retry_after({name.lower(): value for name, value in response.headers.items()})
    return Answer(False, f"slack_{code}", f"Slack answered {code}", "", wait, code in HELD, code in FINAL)
