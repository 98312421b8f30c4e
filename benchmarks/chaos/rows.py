"""What was found, as rows with their targets, and beside them what explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.chaos import measure
from benchmarks.chaos.experiment import FULL, TERMINAL, Found
from benchmarks.chaos.killer import Kill
from benchmarks.chaos.stopper import Stopping
from benchmarks.report import Row, percentile, write


def rows(found: Found) -> list[Row]:
    """The rows, kept under ``build/bench`` and printed."""
    outside = measure.outside(found.runs, found.receivers)
    calls = measure.calls(found.runs)
    hit = [call for call in calls if measure.hit_by(call, found.kills, found.receivers)]
    uncertain = [call for call in calls if call.uncertain]
    late = [call for call in uncertain if not measure.hit_by(call, found.kills, found.receivers)]
    lost = [told for told in found.runs if told.run["status"] not in TERMINAL]
    other = [told for told in found.runs if told.run["status"] in set(TERMINAL) - {"completed"}]
    taken = measure.takeovers(found.runs, found.kills, found.stops, found.receivers)
    alone = [one.seconds for one in taken if one.alone]
    crowded = [one.seconds for one in taken if not one.alone]
    stopped = measure.stopped(found.runs, found.kills, found.stops, found.key, found.receivers)
    proofs = 2 * found.size.stops
    all_rows = [
        Row("kills", "SIGKILLs", len(found.kills), found.size.kills, "higher"),
        Row("runs", "runs", len(found.runs), found.size.runs, "higher", where="accepted over HTTP, with a key each"),
        Row("runs lost", "runs", len(lost), 0, where="60 s after the last kill and stop; all that waits is answered"),
        Row("runs doubled", "runs", found.strangers, 0, where="beside those that were asked for"),
        Row("runs not completed", "runs", len(other), 0, where="over, but failed, blocked or cancelled"),
        Row("effects doubled", "effects", outside.doubled_keyed, 0, where="receiver that honours keys"),
        Row("repeats suppressed", "deliveries", outside.suppressed, where="receiver that honours keys"),
        Row("effects doubled, second receiver", "effects", outside.doubled_plain, 0, where="no keys; people settle"),
        Row("effects missing", "effects", outside.missing, 0, where="both receivers, of completed runs"),
        Row("effects without a yes", "effects", outside.without_a_yes, 0, where="both receivers, of denied calls"),
        Row("effects uncertain", "effects", len(uncertain), len(hit), where="second receiver; people asked it"),
        Row("calls hit on the wire", "calls", len(hit), where="both receivers; something was killed under them"),
        Row("uncertain with nothing killed", "effects", len(late), where="answered later than the skill's second"),
        Row(
            "stops ordered under kills",
            "stops",
            len(found.stops),
            found.size.stops,
            "higher",
            where="over HTTP, lifted",
        ),
        Row(
            "stops amid all kinds of kills", "stops", stopped.beset, 1, "higher", where="worker, API and Temporal died"
        ),
        Row("calls on the wire at a stop", "calls", stopped.wire, where="by the proofs"),
        Row("effects committed after a stop", "effects", stopped.committed, 0, where="by the proofs"),
        Row(
            "effects received after a stop", "effects", stopped.received, 0, where="by both receivers and the journals"
        ),
        Row(
            "proofs of stop that verify", "proofs", stopped.proofs, proofs, "higher", where="before and after the lift"
        ),
        Row("answers that were our fault", "answers", found.trouble["500 bug"], 0, where="HTTP 500 of the API"),
        Row(
            "takeover, p95",
            "s",
            percentile(alone, 0.95) if alone else None,
            5.0,
            where=f"a worker's SIGKILL to the next journaled step; {len(alone)} runs, nothing else down",
        ),
        Row(
            "takeover under overlapping kills, p95",
            "s",
            percentile(crowded, 0.95) if crowded else None,
            where=f"the same for {len(crowded)} runs, other services down or killed meanwhile",
        ),
    ]
    name = "chaos" if found.size == FULL else "chaos-short"
    write(name, all_rows, title=f"chaos, seed {found.seed}, {found.seconds:.0f} s, {found.size.workers} workers")
    return all_rows


def tell(found: Found, say: Callable[[str], None]) -> None:
    """Say what lies behind the rows: which services were killed, what clients met, what ended otherwise and why."""
    say("killed: " + _counted(Counter(kill.victim for kill in found.kills)))
    say("runs: " + _counted(Counter(told.run["status"] for told in found.runs)))
    say("tries that were not answered: " + _counted(found.trouble))
    happened = sum(yes for _, yes in found.people.settled.values())
    say(f"settled by a person: {len(found.people.settled)}, of which had happened: {happened}")
    for stop in found.stops:
        say(_of_a_stop(stop, found.kills))
    taken = measure.takeovers(found.runs, found.kills, found.stops, found.receivers)
    alone = sorted(one.seconds for one in taken if one.alone)
    if alone:
        say("takeovers alone: " + ", ".join(f"p{p} {percentile(alone, p / 100):.2f} s" for p in (50, 75, 90, 95, 100)))
    causes = Counter(
        measure.hit_by(call, found.kills, found.receivers) or "nothing"
        for call in measure.calls(found.runs)
        if call.uncertain
    )
    say("uncertain, by what was killed under the call: " + _counted(causes))
    for told in found.runs:
        if told.run["status"] != "completed":
            problem = told.run.get("problem") or told.run.get("waiting")
            say(f"run {told.number} {told.run['id']} is {told.run['status']}: {problem}")


def keep(found: Found, file: Path) -> None:
    """Keep all that the rows were made of, for whoever wants to know more."""
    receivers, people = found.receivers, found.people
    evidence = {
        "kills": found.kills,
        "stops": found.stops,
        "key": found.key,
        "runs": found.runs,
        "keyed": receivers.keyed,
        "plain": receivers.plain,
        "seen": receivers.seen,
        "settled": [[run, send, at, happened] for (run, send), (at, happened) in people.settled.items()],
    }
    file.write_bytes(msgspec.json.encode(evidence))


def _of_a_stop(stop: Stopping, kills: list[Kill]) -> str:
    proof = stop.proofs[-1]
    under = Counter(kill.victim for kill in kills if stop.answered <= kill.at <= stop.lifting)
    return (
        f"stop of {stop.kind} for {stop.lifting - stop.answered:.1f} s: {proof['runs_brought_to_rest']} runs brought "
        f"to rest within {proof['time_to_stop_seconds']} s, {proof['runs_held_before_working']} held before working, "
        f"{len(proof['on_the_wire'])} calls on the wire; killed under it: {_counted(under)}"
    )


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in what.most_common()) or "none"
