"""Ways to people: the console, mail and Slack. The console is the shipped simple one, and always there."""

from __future__ import annotations

from collections.abc import Callable

from agentos.adapters.notify.console import Console
from agentos.adapters.notify.mail import Mail
from agentos.adapters.notify.settings import SlackSettings, SmtpSettings
from agentos.adapters.notify.slack import Slack
from agentos.operations.notifications.model import Medium
from agentos.operations.notifications.ports import Way


def ways(mail: SmtpSettings, slack: SlackSettings, secret: Callable[[str], str]) -> dict[Medium, Way]:
    """What this process can send by."""
    found: dict[Medium, Way] = {Medium.CONSOLE: Console(), Medium.SLACK: Slack(slack, secret)}
    if mail.host:
        found[Medium.EMAIL] = Mail(mail, secret)
    return found
