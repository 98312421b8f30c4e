"""Threads, messages, and how an answer is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from agentos.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import MessageId, OrgId, PersonId, ThreadId

MOST_TEXT: Final = 4000  # characters of a message: what fits into one of Slack's
MOST_TITLE: Final = 200
MOST_NOTE: Final = 2000  # of an answer's reason: as much as an approval keeps
PLATFORM: Final = "platform"  # the author of what nobody wrote


class ThreadUnknown(NotFound):
    """No such thread in this organization."""

    code = "thread_unknown"


class ThreadAsksNothing(Conflict):
    """The thread is not about anything that could be approved or denied."""

    code = "thread_asks_nothing"


class BadAnswer(Invalid):
    """A message that begins as an answer and is none; it is not kept, so that nobody takes it for one."""

    code = "bad_answer"


class BadAddress(Invalid):
    """What was given is no address in this channel."""

    code = "bad_address"


class AddressTaken(Conflict):
    """This Slack user stands for another person already."""

    code = "address_taken"


class BadWorkspace(Invalid):
    """What was said of a Slack workspace does not connect one."""

    code = "bad_slack_workspace"


class WorkspaceTaken(Conflict):
    """This Slack workspace is connected to an organization already."""

    code = "slack_workspace_taken"


class WorkspaceUnknown(NotFound):
    """The organization has connected no Slack workspace."""

    code = "slack_workspace_unknown"


class BadSlackAction(Invalid):
    """What came is no action in Slack."""

    code = "bad_slack_action"


class SlackRefused(Forbidden):
    """A call that no connected Slack workspace has signed, or too long ago."""

    code = "slack_refused"
    status = 401


class SlackUserUnknown(Forbidden):
    """The Slack user stands for nobody in the organization, or for somebody who may not act any more."""

    code = "slack_user_unknown"


class SlackNotReady(Unavailable):
    """The workspace's signing secret is not set for the API."""

    code = "slack_not_ready"


class MessageKind(StrEnum):
    """What a message is."""

    MESSAGE = "message"  # somebody wrote it
    ANSWER = "answer"  # a person's yes or no
    OUTCOME = "outcome"  # what became of an answer, or of what was asked
    NOTICE = "notice"  # the platform says so
    ALERT = "alert"  # something that a person should look at now


class Channel(StrEnum):
    """Where a message came from, and where a person can be reached."""

    API = "api"
    EMAIL = "email"
    SLACK = "slack"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Thread:
    """What is said about one thing."""

    id: ThreadId
    number: int
    about: str  # an id of another feature, or empty
    title: str
    opened_by: str
    opened_at: datetime
    closed_at: datetime | None
    alerted_at: datetime | None

    @property
    def asks(self) -> bool:
        """Whether it is about an approval."""
        return self.about.startswith("apr_")

    @property
    def steers(self) -> bool:
        """Whether it is about a run, which reads what people write in it."""
        return self.about.startswith("run_")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``about`` and ``approved`` are an answer's, ``settled_at`` says when it had its outcome."""

    id: MessageId
    thread_id: ThreadId
    kind: MessageKind
    channel: Channel
    author: str
    person_id: PersonId | None
    text: str
    about: str
    approved: bool | None
    at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was written."""

    approved: bool
    number: int
    note: str


@dataclass(frozen=True, slots=True)
class Workspace:
    """An organization's Slack workspace. ``shows``: whether arguments may be shown there."""

    organization: OrgId
    team_id: str
    signing_secret: str  # by reference: secret://name
    token: str  # by reference
    shows: bool
    connected_by: str
    connected_at: datetime


@dataclass(frozen=True, slots=True)
class ThreadOpened(Fact):
    """A thread was opened."""

    key_field: ClassVar[str] = "thread_id"
    thread_id: str
    number: int
    about: str
    by: str


@dataclass(frozen=True, slots=True)
class MessageReceived(Fact):
    """Somebody wrote in a thread."""

    key_field: ClassVar[str] = "thread_id"
    thread_id: str
    message_id: str
    about: str
    channel: str
    by: str


@dataclass(frozen=True, slots=True)
class AnswerGiven(Fact):
    """A person answered in a channel; what it is worth is decided where the question was asked."""

    key_field: ClassVar[str] = "thread_id"
    thread_id: str
    message_id: str
    about: str
    approved: bool
    channel: str
    by: str
    sees: bool = True  # whether the key that it was given with lets its holder see personal data


@dataclass(frozen=True, slots=True)
class AnswerSettled(Fact):
    """An answer has its outcome: ``counted``, or the code of the error that says why not."""

    key_field: ClassVar[str] = "thread_id"
    thread_id: str
    message_id: str
    about: str
    channel: str
    person_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class InboxAlerted(Fact):
    """An alert was raised in a thread."""

    key_field: ClassVar[str] = "thread_id"
    thread_id: str
    message_id: str
    about: str


@dataclass(frozen=True, slots=True)
class AddressesChanged(Fact):
    """A person can be reached in these channels now. The addresses themselves are not told."""

    key_field: ClassVar[str] = "person_id"
    person_id: str
    handle: str
    channels: list[str]
    by: str


@dataclass(frozen=True, slots=True)
class WorkspaceConnected(Fact):
    """An organization's approvals can be answered in this Slack workspace."""

    key_field: ClassVar[str] = "team_id"
    team_id: str
    shows: bool
    by: str


@dataclass(frozen=True, slots=True)
class WorkspaceDisconnected(Fact):
    """Nothing that comes from this Slack workspace is taken any more."""

    key_field: ClassVar[str] = "team_id"
    team_id: str
    by: str


_BEGINS: Final = re.compile(r"\s*(approve|deny)\s+#?\d", re.IGNORECASE)
_ANSWER: Final = re.compile(
    r"\s*(?P<verb>approve|deny)\s+#?(?P<number>\d{1,9})(?:\s*[,:]?\s+because\s+(?P<note>\S.*?))?[\s.!]*",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)


def read_answer(text: str) -> Said | None:
    """The answer that a text is, or None for any other text.

    Raises BadAnswer (Invalid) for a text that begins as an answer and goes on otherwise.
    """
    if not _BEGINS.match(text):
        return None
    found = _ANSWER.fullmatch(text)
    if found is None or len(found["note"] or "") > MOST_NOTE:
        raise BadAnswer(
            "this begins as an answer and is none", then="Write 'approve 42 because …' or 'deny 42 because …'."
        )
    return Said(found["verb"].lower() == "approve", int(found["number"]), found["note"] or "")
