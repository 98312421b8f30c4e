"""What the sample agents do when their model is the stub: compute notes from the history that they received.

``release_notes`` covers every commit. ``release_notes_hasty`` is worse on purpose: it drops every second commit, which
the demo's check finds.
"""

from __future__ import annotations

import json
from typing import Any, Final

from agentos.adapters.llm.stub import behaviour
from agentos.runtime.inference import Question

# The newest commits get a line with their subject, older ones only their link, so that the notes of 10,000 commits
# stay under what webhook_send takes (256 KiB): 500 × ~130 + 11,500 × 17 bytes.
MOST_COMMITS: Final = 12_000
MOST_LINES: Final = 500


@behaviour("release_notes")
def release_notes(question: Question) -> dict[str, Any]:
    """Read the history, publish notes that cover all of it, and say what was done."""
    return _next(question, dropping=False)


@behaviour("release_notes_hasty")
def release_notes_hasty(question: Question) -> dict[str, Any]:
    """The same, but every second commit is left out."""
    return _next(question, dropping=True)


@behaviour("changelog")
def changelog(question: Question) -> dict[str, Any]:
    """Read the history of the first root, write it to the file that was asked for, and say what was done."""
    results = [result for message in question.messages for result in message.results]
    if results and results[-1].failed:
        return {"text": f"Not written: {results[-1].text}"}
    if not results:
        return {"calls": [{"skill": "git_log", "arguments": {"order": "oldest", "limit": MOST_COMMITS}}]}
    if len(results) == 1:
        file = json.loads(question.messages[0].text)["file"]
        written = {"path": file, "text": notes(json.loads(results[0].text))}
        return {"calls": [{"skill": "file_write", "arguments": written}]}
    return {"text": f"Wrote {json.loads(results[1].text)['path']}."}


@behaviour("data_extraction")
def data_extraction(question: Question) -> dict[str, Any]:
    """Read a file of orders, select those that are open, and add up what they come to."""
    results = [result for message in question.messages for result in message.results]
    if results and results[-1].failed:
        return {"text": f"Not extracted: {results[-1].text}"}
    if not results:
        file = json.loads(question.messages[0].text)["file"]
        return {"calls": [{"skill": "read_file", "arguments": {"path": file}}]}
    if len(results) == 1:
        data = json.loads(json.loads(results[0].text)["text"])
        expression = "orders[?status == 'open'].{id: id, customer: customer.name, total: total}"
        return {"calls": [{"skill": "json_transform", "arguments": {"data": data, "expression": expression}}]}
    orders = json.loads(results[1].text)["result"]
    found = {"open": len(orders), "total": round(sum(one["total"] for one in orders), 2), "orders": orders}
    return {"text": json.dumps(found)}


def _next(question: Question, *, dropping: bool) -> dict[str, Any]:
    given = json.loads(question.messages[0].text)
    results = [result for message in question.messages for result in message.results]
    if results and results[-1].failed:
        return {"text": f"Not published: {results[-1].text}"}
    if not results:
        arguments = {"path": given["repository"], "since": "last-tag", "order": "oldest", "limit": MOST_COMMITS}
        return {"calls": [{"skill": "git_log", "arguments": arguments}]}
    history = json.loads(results[0].text)
    if not history["commits"]:
        since = history["last_tag"] or "the start"
        return {"text": f"There are no commits since {since}; nothing was published."}
    if len(results) == 1:
        body = {
            "repository": history["repository"],
            "head": history["head"],
            "notes": notes(history, dropping=dropping),
        }
        call = {"url": given["hook"], "payload": body, "secret": "secret://release-hook"}
        return {"calls": [{"skill": "webhook_send", "arguments": call}]}
    return {"text": f"Published release notes for {len(history['commits'])} commits."}


def notes(history: dict[str, Any], *, dropping: bool = False) -> str:
    """The release notes of a history, oldest commit first. ``dropping`` keeps only every second commit."""
    commits = history["commits"][1::2] if dropping else history["commits"]
    since = f"since {history['last_tag']}" if history["last_tag"] else "since the start"
    lines = [f"# Release notes: {history['total']} commits {since}", ""]
    if history["shallow"]:
        lines += ["The clone is shallow: the start is where it was cut off.", ""]
    if history["truncated"]:
        lines += [f"Only the newest {len(history['commits'])} commits are listed.", ""]
    older, newest = commits[: max(0, len(commits) - MOST_LINES)], commits[-MOST_LINES:]
    if older:
        lines += ["Older commits: " + " ".join(f"<c/{one['short']}>" for one in older), ""]
    lines += [f"- {one['subject'][:80]} <c/{one['short']}>" for one in newest]
    return "\n".join(lines) + "\n"
