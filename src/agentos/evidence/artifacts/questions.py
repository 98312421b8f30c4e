"""What a question asks: about whom, of which time, for what. By tables of English words, without a model.

Moments ("14:02", "last friday", "2026-11-20") are read by dateparser; here stands only which words span a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dateparser

from agentos.evidence.artifacts.model import EVER, BadEvidenceQuery

MOST_QUESTION: Final = 1000  # characters
MOST_NAME_WORDS: Final = 6  # of an agent's id that is written with spaces
MOMENT: Final = timedelta(minutes=1)  # around a clock time that stands alone
LONGEST_MOMENT: Final = 6  # words


class Topic(StrEnum):
    """What is asked for."""

    EFFECTS = "effects"
    APPROVALS = "approvals"
    RUNS = "runs"
    DECISIONS = "decisions"
    STOPS = "stops"


_WORDS_OF: Final = {
    Topic.EFFECTS: """act acted acts call called calls change changed changes did do done effect effects execute
        executed paid post posted publish published publishes publishing push pushed send sends sent write writes
        written wrote""",
    Topic.APPROVALS: """allow allowed answer answered approval approvals approve approved approver approvers approves
        authorised authorized confirmed permitted signed""",
    Topic.RUNS: """cancelled completed crashed ended fail failed failure failures finish finished ran run runs start
        started status succeed succeeded""",
    Topic.DECISIONS: """blocked decide decided decision decisions denied deny drafted policy refused rejected rule
        rules why""",
    Topic.STOPS: "degraded denylist halted kill killed lifted pause paused stop stopped stops",
}
_BY_WORD: Final = {word: topic for topic, words in _WORDS_OF.items() for word in words.split()}
# What runs came to, and what was said of calls, by the words that ask for it alone.
_STATUSES: Final = {
    **dict.fromkeys(("crashed", "fail", "failed", "failure", "failures"), ("failed", "blocked")),
    **dict.fromkeys(("completed", "succeed", "succeeded"), ("completed",)),
    "cancelled": ("cancelled",),
    **dict.fromkeys(("blocked", "denied", "deny", "refused", "rejected"), ("denied", "blocked")),
    "drafted": ("drafted",),
}
# Words that say nothing of what to look for.
_SAYING_NOTHING: Final = """
    a about after agent agents all am an and any anything are as at be been before between by can could
    day deployment deployments did does everything for from had happen happened has have he her his how i in is it its
    last list many me much my not of on or our out past she show
    since so tell that the their them then there these they this those time to today until up us was we were what when
    where which while who whom whose will with within would yesterday you"""
SILENT: Final = frozenset(_SAYING_NOTHING.split())
_ID: Final = re.compile(r"\b(run|apr|stop)_[0-7][0-9a-hjkmnp-tv-z]{25}\b")
_WORD: Final = re.compile(r"[^\W_]+(?:[_.@:-][^\W_]+)*")
_AGENT_LIKE: Final = re.compile(r"\b[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*_agent(?:_[0-9]+)?\b")

_UNIT: Final = r"(?:seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w|months?)"
_SPAN: Final = re.compile(rf"\b(?:last|past|previous)\s+(?:(\d{{1,4}})\s*)?({_UNIT})\b")
_BETWEEN: Final = re.compile(r"\b(?:between|from)\s+(.{1,40}?)\s+(?:and|to|until|till)\s+(.{1,60})")
_EDGE: Final = re.compile(r"\b(since|after|before|until)\s+(.{1,60})")
_MONTH: Final = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)(?:uary|ruary|ch|il|ust|ember|tember|ober)?"
_DAY: Final = re.compile(
    r"\b(yesterday|today|(?:on\s+|last\s+)?(?:mon|tues|wednes|thurs|fri|satur|sun)day|\d{4}-\d\d-\d\d(?!t)|"
    rf"(?:on\s+)?(?:\d{{1,2}}\s+{_MONTH}|{_MONTH}\s+\d{{1,2}})(?:\s+\d{{4}})?)\b"
)
_WEEK: Final = re.compile(r"\b(this|last)\s+(week|month)\b")
_CLOCK: Final = re.compile(r"\b(?:at\s+)?(\d{1,2}:\d\d(?::\d\d)?)\b")
_AGO: Final = re.compile(rf"\b(an?|one|\d{{1,4}})\s*({_UNIT})\s+ago\b")
_PARTS: Final = {  # of a day: the hours that it begins and ends at, of which day
    "this morning": (0, 12),
    "this afternoon": (12, 18),
    "this evening": (18, 24),
    "tonight": (18, 30),
    "last night": (-6, 6),
    "day before yesterday": (-48, -24),
    "yesterday morning": (-24, -12),
    "yesterday afternoon": (-12, -6),
    "yesterday evening": (-6, 0),
}
_PART: Final = re.compile(rf"\b({'|'.join(_PARTS)})\b")
_HOUR: Final = re.compile(r"\b(?:at\s+)?((?:0?[1-9]|1[0-2])(:[0-5]\d)?\s*[ap]m)\b")
# What speaks of a time: where none was read of it, it was not understood.
_OF_TIME: Final = re.compile(
    r"\b(ago|\d{1,2}\s*[ap]m|\d{1,2} o'?clock|(?:at|around|by|before|after|since|until) (?:noon|midnight|night)|"
    r"(?:in the|that|every|last|past|previous) (?:morning|afternoon|evening|night|weekend|year|quarter))\b"
)
_STAMP: Final = re.compile(r"\b(?:\d{4}-\d\d-\d\dt\d\d:\d\d\S*|\d{1,2}([./-])\d{1,2}\1\d{4}\b)")
_LENGTHS: Final = {
    "s": timedelta(seconds=1),
    "mi": timedelta(minutes=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
}


@dataclass(frozen=True, slots=True)
class Window:
    """A time, and the words that it was read from."""

    since: datetime
    until: datetime
    words: str = ""  # empty: none was named, so it is everything up to now


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was understood, apart from the agents, whom only the organization knows."""

    text: str
    names: tuple[str, ...]  # what may be the id of an agent
    like_agents: tuple[str, ...]  # what can only be one
    ids: tuple[str, ...]  # of runs, approvals and stops
    window: Window
    topics: frozenset[Topic]
    statuses: frozenset[str]  # of runs and decisions; empty: all
    words: tuple[str, ...]  # what is left to look for

    def of(self, prefix: str) -> tuple[str, ...]:
        """The ids of one kind."""
        return tuple(one for one in self.ids if one.startswith(f"{prefix}_"))


def understood(text: str, *, at: datetime, zone: str = "UTC") -> Question:
    """A question as far as its words tell. Raises BadEvidenceQuery (Invalid)."""
    plain = " ".join(text.replace("\0", " ").split())
    if not any(one.isalnum() for one in plain):
        raise BadEvidenceQuery("there is no question", where="question", then="Ask what an agent did, and when.")
    if len(plain) > MOST_QUESTION:
        raise BadEvidenceQuery(f"a question has {MOST_QUESTION} characters at most", where="question")
    low = plain.casefold()
    try:
        window, rest = window_of(low, at=at, zone=zone)
    except OverflowError:
        raise BadEvidenceQuery("it names a time that no calendar has", where="question") from None
    ids = tuple(dict.fromkeys(one[0] for one in _ID.finditer(low)))
    rest = _ID.sub(" ", rest)
    words = tuple(dict.fromkeys(_WORD.findall(rest)))
    return Question(
        plain,
        tuple(dict.fromkeys(_names(rest))),
        tuple(dict.fromkeys(one[0] for one in _AGENT_LIKE.finditer(rest))),
        ids,
        window,
        frozenset(_BY_WORD[one] for one in words if one in _BY_WORD),
        frozenset(status for one in words for status in _STATUSES.get(one, ())),
        tuple(one for one in words if one not in SILENT and one not in _BY_WORD),
    )


def window_of(text: str, *, at: datetime, zone: str) -> tuple[Window, str]:
    """The time that a text in small letters names, and the text without its words.

    Raises BadEvidenceQuery where words of a time are left: the answer would be of another time than was asked for.
    """
    window, rest = _read(text, at=at, zone=zone)
    for words in (_OF_TIME, _STAMP, _DAY, _CLOCK, _HOUR, _AGO, _PART, _SPAN, _WEEK):
        if (unread := words.search(rest)) is not None:
            raise BadEvidenceQuery(
                f"the time in '{unread[0]}' is not understood",
                where="question",
                then="Write one time, as 'last 3 hours', 'yesterday between 14:00 and 15:00' or '2026-11-20'.",
            )
    return window, rest


def _read(text: str, *, at: datetime, zone: str) -> tuple[Window, str]:
    try:
        here = at.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadEvidenceQuery(f"'{zone[:60]}' is no time zone", where="zone", then="Write Europe/Berlin.") from None
    for span in (_ago, _part):
        inside = span(text, here)
        if inside is not None:
            return _window(inside[0], inside[1], at, inside[2]), inside[3]
    dated = _BETWEEN.search(text)
    if dated is not None and _is_day(dated[1]) and (inside := _between(text, here)) is not None:
        return _window(inside[0], inside[1], at, inside[2]), inside[3]
    found, day = next(_days(text, here), (None, here))
    rest = text if found is None else _without(text, found)
    for span in (_between, _hour, _clock):
        inside = span(rest, _reference(day, here) if found else here)
        if inside is not None:
            return _window(inside[0], inside[1], at, f"{found[0]} {inside[2]}" if found else inside[2]), inside[3]
    if found is None:
        for span in (_last, _week, _edge):
            inside = span(text, here)
            if inside is not None:
                return _window(inside[0], inside[1], at, inside[2]), inside[3]
        return Window(EVER, at + MOMENT), text
    edge = re.search(r"\b(since|after|before|until)\s+$", text[: found.start()])
    start = day.replace(hour=0, minute=0, second=0, microsecond=0)
    end = start + timedelta(days=1)
    if edge is not None:
        after = edge[1] in ("since", "after")
        return _window(start if after else EVER, here if after else start, at, f"{edge[1]} {found[0]}"), rest
    return _window(start, end, at, found[0]), rest


_Span = tuple[datetime, datetime, str, str]


def _days(text: str, here: datetime) -> Iterator[tuple[re.Match[str], datetime]]:
    for found in _DAY.finditer(text):
        if (moment := _moment(found[1], here)) is not None:
            yield found, moment


def _between(text: str, here: datetime) -> _Span | None:
    for found in _BETWEEN.finditer(text):
        first = _moment(found[1], here)
        if first is None:
            continue
        for words, second in _moments(found[2], here):
            if second <= first:
                second += timedelta(days=1)
            end = found.start(2) + len(words)
            return first, second + _grain(words), text[found.start() : end], text[: found.start()] + text[end:]
    return None


def _edge(text: str, here: datetime) -> _Span | None:
    for found in _EDGE.finditer(text):
        for words, moment in _moments(found[2], here):
            end = found.start(2) + len(words)
            said, rest = text[found.start() : end], text[: found.start()] + text[end:]
            return (moment, here, said, rest) if found[1] in ("since", "after") else (EVER, moment, said, rest)
    return None


def _last(text: str, here: datetime) -> _Span | None:
    found = _SPAN.search(text)
    if found is None or (found[1] is None and found[2] in ("week", "month")):
        return None
    unit = found[2]
    size = next(length for short, length in sorted(_LENGTHS.items(), key=lambda one: -len(one[0])) if _is(unit, short))
    return here - size * int(found[1] or 1), here, found[0], _without(text, found)


def _week(text: str, here: datetime) -> _Span | None:
    found = _WEEK.search(text)
    if found is None:
        return None
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=today.weekday()) if found[2] == "week" else today.replace(day=1)
    if found[1] == "this":
        return start, here, found[0], _without(text, found)
    before = start - timedelta(days=1)
    first = start - timedelta(days=7) if found[2] == "week" else before.replace(day=1)
    return first, start, found[0], _without(text, found)


def _clock(text: str, here: datetime) -> _Span | None:
    found = _CLOCK.search(text)
    if found is None or re.search(r"\b(since|after|before|until|between|from)\s+$", text[: found.start()]):
        return None
    moment = _moment(found[1], here)
    return None if moment is None else (moment, moment + MOMENT, found[0], _without(text, found))


def _ago(text: str, here: datetime) -> _Span | None:
    """Around a moment so long ago, as near as its unit says; days are whole ones."""
    found = _AGO.search(text)
    if found is None or re.search(r"\b(since|after|before|until|between|from|and|to)\s+$", text[: found.start()]):
        return None
    many = int(found[1]) if found[1].isdigit() else 1
    size = next(
        length for short, length in sorted(_LENGTHS.items(), key=lambda one: -len(one[0])) if _is(found[2], short)
    )
    moment, near = here - size * many, size / 2
    if size >= timedelta(days=1):
        moment, near = moment.replace(hour=12, minute=0, second=0, microsecond=0), size / 2
    return moment - near, moment + near, found[0], _without(text, found)


def _part(text: str, here: datetime) -> _Span | None:
    found = _PART.search(text)
    if found is None or re.search(r"\b(since|after|before|until|between|from|and|to)\s+$", text[: found.start()]):
        return None
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    begins, ends = _PARTS[found[1]]
    return today + timedelta(hours=begins), today + timedelta(hours=ends), found[0], _without(text, found)


def _hour(text: str, here: datetime) -> _Span | None:
    """An hour of twelve, as 3pm: all of it where it has no minutes."""
    found = _HOUR.search(text)
    if found is None or re.search(r"\b(since|after|before|until|between|from|and|to)\s+$", text[: found.start()]):
        return None
    moment = _moment(found[1], here)
    if moment is None:
        return None
    return moment, moment + (MOMENT if found[2] else timedelta(hours=1)), found[0], _without(text, found)


def _moments(words: str, here: datetime) -> Iterator[tuple[str, datetime]]:
    """The longest beginning of the words that is a moment."""
    ends = [one.end() for one in re.finditer(r"[^\s,;?!]+", words)][:LONGEST_MOMENT]
    for end in reversed(ends):
        moment = _moment(words[:end], here)
        if moment is not None:
            yield words[:end], moment


def _moment(words: str, here: datetime) -> datetime | None:
    if not re.search(r"[0-9]|day|week|noon|midnight|morning|ago", words):  # "may" is more often a word than a month
        return None
    settings = {"RELATIVE_BASE": here.replace(tzinfo=None), "PREFER_DATES_FROM": "past"}
    try:
        read: datetime | None = dateparser.parse(words.removeprefix("on "), languages=["en"], settings=settings)
    except (ValueError, OverflowError):  # numbers that no calendar has
        return None
    if read is None:
        return None
    return read.replace(tzinfo=here.tzinfo) if read.tzinfo is None else read.astimezone(here.tzinfo)


def _reference(day: datetime, here: datetime) -> datetime:
    """The end of a day, before which the clock times named beside it are."""
    return day if day.date() == here.date() else day.replace(hour=23, minute=59, second=59, microsecond=0)


def _grain(words: str) -> timedelta:
    """A minute or a day that is named as an end is still inside."""
    if re.search(r"\d:\d\d$", words):
        return MOMENT
    return timedelta(days=1) if _is_day(words) and ":" not in words else timedelta()


def _is_day(words: str) -> bool:
    return _DAY.search(words) is not None


def _is(unit: str, short: str) -> bool:
    return unit == short or (len(unit) > 1 and unit.startswith(short) and not (short == "m" and unit.startswith("mo")))


def _window(since: datetime, until: datetime, at: datetime, words: str) -> Window:
    if since >= until:
        raise BadEvidenceQuery(f"'{words[:60]}' ends before it begins", where="question", then="Name another time.")
    return Window(since.astimezone(at.tzinfo), until.astimezone(at.tzinfo), words.strip())


def _without(text: str, found: re.Match[str]) -> str:
    return f"{text[: found.start()]} {text[found.end() :]}"


def _names(text: str) -> Iterator[str]:
    """What may be an agent's id: a word, or a few that an id would join."""
    words = re.findall(r"[a-z0-9_-]+", text)
    for start in range(len(words)):
        for size in range(1, MOST_NAME_WORDS + 1):
            part = words[start : start + size]
            if len(part) == size and len(found := "_".join(part)) <= 63:
                yield found
                if size > 1:
                    yield "-".join(part)
