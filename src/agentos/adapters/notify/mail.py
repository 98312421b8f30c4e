"""Messages to people by mail. It shows no arguments: mail lies about in many places, and its link leads to them.

The Message-ID is the message's own on every try, so a mailbox shows one that came twice as what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from agentos.adapters.notify.settings import SmtpSettings
from agentos.kernel import clock
from agentos.kernel.errors import NotFound
from agentos.operations.notifications.model import Answer, Letter

WAIT_SECONDS: Final = 10.0  # for each answer of the mail server


class Mail:
    """The way by SMTP."""

    def __init__(self, settings: SmtpSettings, secret: Callable[[str], str]) -> None:
        self._settings = settings
        self._secret = secret

    async def send(self, letter: Letter) -> Answer:
        """Send one message. What a server says of an address is not repeated: it names the address."""
        settings = self._settings
        try:
            password = self._secret(settings.password.removeprefix("secret://")) if settings.user else None
        except NotFound as error:
            return Answer(False, error.code, str(error), held=True)
        try:
            await aiosmtplib.send(
                self._message(letter),
                hostname=settings.host,
                port=settings.port,
                username=settings.user or None,
                password=password,
                use_tls=settings.tls == "tls",
                start_tls=settings.tls == "starttls",
                local_hostname=self._domain,
                timeout=WAIT_SECONDS,
            )
        except aiosmtplib.SMTPAuthenticationError as error:
            return Answer(False, f"smtp_{error.code}", "the mail server refuses the password", held=True)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(error.recipients[0].code)
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error.code)
        except aiosmtplib.SMTPTimeoutError:
            return Answer(False, "smtp_timeout", f"no answer within {WAIT_SECONDS:g} s")
        except (aiosmtplib.SMTPException, OSError) as error:
            return Answer(False, "smtp_unreachable", type(error).__name__)
        return Answer(True, receipt=self._message_id(letter))

    @property
    def _domain(self) -> str:
        return self._settings.sender.partition("@")[2]

    def _message_id(self, letter: Letter) -> str:
        return f"<{letter.id}@{self._domain}>"

    def _message(self, letter: Letter) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = f"AgentOS <{self._settings.sender}>"
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(clock.now())
        message["Message-ID"] = self._message_id(letter)
        message["Auto-Submitted"] = "auto-generated"
        message["References"] = f"<{letter.about}@{self._domain}>"  # one conversation for each question
        message.set_content("\n".join((*letter.lines, "", letter.link, "")))
        return message


def _refused(code: int) -> Answer:
    """A refusal for good, or one for now: that is what the first digit says."""
    return Answer(False, f"smtp_{code}", f"the mail server answered {code}", final=500 <= code < 600)
