"""Messages to people as lines of the process's log, for a machine without mail or Slack: nobody is woken by them."""

from __future__ import annotations

import structlog

from agentos.operations.notifications.model import Answer, Letter

log = structlog.get_logger(__name__)


class Console:
    """Writes messages to the log. It says where to look, never what an agent's arguments are."""

    async def send(self, letter: Letter) -> Answer:
        """Write one message down."""
        log.warning(  # a warning: whoever may answer was told nowhere else
            "notification",
            notification_id=letter.id,
            org=letter.organization,
            kind=letter.kind.value,
            person=letter.to,
            thread=letter.number,
            about=letter.about,
            said=letter.subject,
            link=letter.link,
        )
        return Answer(True, receipt="console")
