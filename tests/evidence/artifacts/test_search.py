"""What runs read and made is kept once, found by words and by likeness, and shown as far as the looker may see."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from agentos.apps.worker import __main__ as worker
from agentos.evidence.artifacts import content, indexing, search, service, store
from agentos.evidence.artifacts.model import BadEvidenceQuery, Filters, Kind, Stored
from agentos.intake.identity import service as identity
from agentos.kernel.clock import now
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from tests.evidence.artifacts.conftest import Archive, Away, everything
from tests.runtime.runs.harness import DONE, calls

REPORT = {"title": "Quarterly report", "body": "Revenue of the harbour branch rose after the crane was repaired."}


async def uses(archive: Archive, **filters: Any) -> list[tuple[str, str]]:
    async with archive.runs.doors.open(archive.runs.organization) as work:
        found = await service.listed(work, Filters(**filters), before=None, most=100)
    return sorted((use.kind.value, use.step) for use, _ in found)


async def test_a_run_leaves_what_it_was_given_read_sent_was_told_said_and_made(archive: Archive) -> None:
    reading = await archive.run("look", REPORT, text="All is well at the harbour.")
    assert await uses(archive, run=reading) == [
        ("answer", "t1"),
        ("input", "input"),
        ("output", "output"),
        ("read", "t0.c0"),
    ]
    writing = await archive.run("note", name="writer")
    assert await uses(archive, run=writing) == [
        ("answer", "t1"),
        ("effect", "t0.c0"),
        ("input", "input"),
        ("output", "output"),
        ("result", "t0.c0"),
    ]


async def test_a_run_that_waits_leaves_what_it_has_so_far(archive: Archive) -> None:
    await archive.runs.agent([calls(("look", 1)), calls(("pay", 7)), DONE], ["look", "pay"], tier="L3")
    run_id = await archive.runs.start()
    await archive.runs.finish(run_id)
    await archive.artifacts.take(archive.runs.organization, [run_id])
    assert await uses(archive, run=run_id) == [("input", "input"), ("read", "t0.c0")]


async def test_a_draft_is_kept_as_what_was_drafted_and_a_refusal_as_its_reason(archive: Archive) -> None:
    drafted = await archive.run("note", name="drafter", tier="L1")
    denied = await archive.run("note", name="observer", tier="L0")
    async with archive.runs.doors.open(archive.runs.organization) as work:
        for run_id, kind, told in ((drafted, "draft", "n: 1"), (denied, "refusal", "policy says no")):
            (found,) = await service.listed(work, Filters(run=run_id, kind=kind), before=None, most=10)
            _, _, stored = await service.get(work, found[1].digest)
            assert stored is not None and told in content.text_of(stored.use.kind, stored.value)


async def test_taking_a_run_twice_changes_nothing_and_equal_bytes_are_one_artifact(archive: Archive) -> None:
    first = await archive.run("look", REPORT)
    before = await uses(archive)
    await archive.artifacts.take(archive.runs.organization, [first])
    assert await uses(archive) == before
    await archive.run("look", REPORT)
    async with archive.runs.doors.open(archive.runs.organization) as work:
        read = {
            artifact.digest
            for use, artifact in await service.listed(work, Filters(kind="read"), before=None, most=10)
            if use.kind is Kind.READ
        }
        (digest,) = read
        _, places, stored = await service.get(work, digest)
        passages = await work.all(
            text("SELECT number FROM artifact_passages WHERE digest = :digest"), {"digest": digest}
        )
    assert len(places) == 2 and len(passages) == 1
    assert stored is not None and stored.value == REPORT


async def test_the_digest_is_that_of_the_bytes_in_the_journal_also_of_a_blob(archive: Archive) -> None:
    large = {"body": "granite " * 40_000}
    run_id = await archive.run("look", large)
    async with archive.runs.doors.open(archive.runs.organization) as work:
        (found,) = await service.listed(work, Filters(run=run_id, kind="read"), before=None, most=10)
        (blob,) = await work.all(text("SELECT digest, content FROM blobs"))
    assert found[1].digest == blob.digest == content.digest_of(bytes(blob.content))
    assert found[1].searched < found[1].characters
    assert (await archive.search("granite")).hits[0].use.run_id == run_id


async def test_a_search_finds_all_words_before_some_and_marks_them(archive: Archive) -> None:
    both = await archive.run("look", {"body": "the crane at the harbour"})
    one = await archive.run("look", {"body": "a crane is a bird, a crane is a machine, crane"})
    found = await archive.search("crane harbour")
    assert [hit.use.run_id for hit in found.hits[:2]] == [both, one]
    assert "«crane»" in found.hits[0].snippet and "«harbour»" in found.hits[0].snippet


async def test_other_spellings_are_found_by_likeness_alone(archive: Archive) -> None:
    run_id = await archive.run("look", {"body": "deployments of the billing service were postponed"})
    await archive.run("look", {"body": "weather in Lisbon stays mild and dry"})
    (hit,) = (await archive.search("postponing deploys")).hits
    assert (hit.use.run_id, hit.ways) == (run_id, ("likeness",))
    assert not (await archive.search("zxqwv kjhgf")).hits


async def test_filters_narrow_to_agent_run_kind_and_time(archive: Archive) -> None:
    first = await archive.run("look", REPORT)
    second = await archive.run("look", {"body": "another harbour"}, name="other")
    assert {one.use.run_id for one in (await archive.search("harbour")).hits} == {first, second}
    for filters, expected in (
        ({"agent": "other"}, {second}),
        ({"run": first}, {first}),
        ({"kind": "output"}, set()),
        ({"until": now() - timedelta(hours=1)}, set()),
        ({"since": now() - timedelta(hours=1)}, {first, second}),
    ):
        found = await archive.search("harbour", **filters)
        assert {one.use.run_id for one in found.hits} == expected, filters


async def test_another_organization_finds_nothing(archive: Archive) -> None:
    await archive.run("look", REPORT)
    other = OrgId(archive.runs.organization + "_b")
    found = await archive.evidence.search(other, "harbour", Filters(), most=10, see=_never, masks=True)
    assert not found.hits


async def _never(_stored: Stored) -> Any:
    raise AssertionError("there was nothing to see")


async def test_what_is_hidden_from_the_one_who_looks_finds_nothing_for_them(archive: Archive) -> None:
    await archive.run("look", {"to": "ann@example.com", "about": "the crane"})

    async def masked(stored: Stored) -> Any:
        return {"to": "[REDACTED: EMAIL]", "about": "the crane"} if stored.use.kind is Kind.READ else stored.value

    assert not (await archive.search("ann@example.com", see=masked, kind="read")).hits
    (hit,) = (await archive.search("crane", see=masked, kind="read")).hits
    assert "ann" not in hit.text + hit.snippet
    assert (await archive.search("ann@example.com", kind="read")).hits


async def test_no_choice_of_words_tells_a_masked_looker_where_a_hidden_name_stands(archive: Archive) -> None:
    for number in range(6):
        name = "Smith" if number == 4 else "Jones"
        await archive.run("look", {"about": "invoice", "number": number, "from": name})

    async def masked(stored: Stored) -> Any:
        return {**stored.value, "from": "[REDACTED: NAME]"} if stored.use.kind is Kind.READ else stored.value

    async def found(words: str, most: int, see: Any = masked) -> list[str]:
        hits = (await archive.search(words, see=see, most=most, kind="read")).hits
        return [hit.use.digest for hit in hits]

    assert len(await found("invoice", 10)) == 6
    for most in (1, 3, 10):
        for words in ("invoice smith", "smith or invoice", "invoice jones", "invoice zxqwv"):
            assert await found(words, most) == await found("invoice", most), (words, most)
    assert await found("smith", 10) == []
    with pytest.raises(BadEvidenceQuery):
        await found("invoice -smith", 10)
    assert await found("invoice -smith", 10, everything)


async def test_a_hidden_name_brings_nothing_near_among_more_than_are_looked_through(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "DEPTH", 4)
    for number in range(6):
        await archive.run("look", {"about": "invoice", "number": number, "from": f"person{number}"})

    async def masked(stored: Stored) -> Any:
        return {**stored.value, "from": "[REDACTED: NAME]"} if stored.use.kind is Kind.READ else stored.value

    found = set()
    for number in range(6):
        hits = (await archive.search(f"invoice person{number}", see=masked, most=1, kind="read")).hits
        found.add(tuple(hit.use.digest for hit in hits))
    assert len(found) == 1


async def test_a_text_larger_than_an_index_takes_is_found_for_a_masked_looker(archive: Archive) -> None:
    words = " ".join(f"w{number:08}" for number in range(150_000))  # PostgreSQL takes a megabyte of words at once
    await archive.run("look", {"body": f"zeppelin {words}"})

    async def see(stored: Stored) -> Any:
        return stored.value

    assert (await archive.search("zeppelin", see=see)).hits


async def test_without_embeddings_words_still_find_and_the_answer_says_why(archive: Archive) -> None:
    archive.embeddings = away = Away()
    run_id = await archive.run("look", {"body": "a refund for the harbour"})
    found = await archive.search("refund")
    assert [hit.use.run_id for hit in found.hits] == [run_id]
    assert found.not_by_likeness == "embeddings_unavailable"
    assert (await archive.ask("anything about the refund")).not_by_likeness == "embeddings_unavailable"
    away.is_away = False
    await archive.run("look", {"body": "nothing of the kind"})
    found = await archive.search("refund")
    assert found.not_by_likeness == "" and "likeness" in found.hits[0].ways


async def test_an_endpoint_of_embeddings_is_told_no_personal_data(archive: Archive) -> None:
    archive.embeddings = away = Away(is_away=False)
    await archive.run("look", {"body": "write to ann.lee@example.com about the refund"})
    assert away.told and not [one for one in away.told if "ann.lee" in one]


async def test_what_was_embedded_otherwise_is_embedded_again(archive: Archive) -> None:
    archive.embeddings = Away(is_away=False)
    await archive.run("look", {"body": "deployments were postponed"})
    archive.embeddings = type(archive.embeddings)(name="lexical-2", local=True, is_away=False)
    await archive.run("look", {"body": "another refund"})
    async with archive.runs.doors.open(archive.runs.organization) as work:
        rows = await work.all(text("SELECT DISTINCT embedder FROM artifact_passages"))
    assert [row.embedder for row in rows] == ["lexical-2"]


async def test_uses_are_forgotten_after_their_time_with_what_nothing_uses(archive: Archive) -> None:
    await archive.run("look", REPORT)
    database = archive.runs.doors.database
    assert await forget(database, indexing.KEPT, at=now() + indexing.KEPT.kept - timedelta(hours=1)) == 0
    assert await forget(database, indexing.KEPT, at=now() + indexing.KEPT.kept + timedelta(hours=1)) > 0
    assert await uses(archive) == []
    async with archive.runs.doors.open(archive.runs.organization) as work:
        for table in ("artifacts", "artifact_passages"):
            assert not await work.all(text(f"SELECT digest FROM {table}"))


def test_a_text_is_cut_between_words_and_every_character_is_in_a_passage() -> None:
    said = " ".join(f"word{number}" for number in range(1000))
    cut = content.passages(said)
    assert "".join(part for _, part in cut) == said
    assert all(said[start : start + len(part)] == part and len(part) <= content.PASSAGE for start, part in cut)
    assert all(part.endswith(" ") for _, part in cut[:-1])
    assert content.text_of(Kind.READ, {"a": [1, {"b": "x\0y"}], "c": None}) == "a: 1\na.b: x y"


async def test_what_holds_the_words_as_they_stand_comes_before_what_holds_them_elsewhere(archive: Archive) -> None:
    apart = [
        await archive.run("look", {"body": f"harbour {number} crane crane report, harbour repair crane report harbour"})
        for number in range(3)
    ]
    exact = await archive.run("look", {"body": "long ago somebody wrote a crane harbour report that nobody kept"})
    found = [hit.use.run_id for hit in (await archive.search("crane harbour report")).hits]
    assert found[0] == exact and set(found[1:4]) == set(apart)


async def test_what_holds_the_rarer_word_comes_first(archive: Archive) -> None:
    archive.embeddings = Away()
    for number in range(4):
        await archive.run("look", {"body": f"invoice {number} invoice {number} invoice"})
    rare = await archive.run("look", {"body": "there was one about a zeppelin that landed by night in the north"})
    assert (await archive.search("zeppelin invoice")).hits[0].use.run_id == rare


async def invoices(archive: Archive, organization: OrgId) -> None:
    """Nine hundred artifacts that hold a common word, which no run that is still known used."""
    async with archive.runs.doors.open(organization) as work:
        for one in (
            "INSERT INTO artifacts SELECT :org, 'sha256:' || n, 'text/plain', 1, 1, 1 FROM generate_series(1, 900) n",
            "SELECT artifact_passages_add(:org, 'sha256:' || n, '{0}', ARRAY['an invoice of ' || n], '', '{}') "
            "FROM generate_series(1, 900) n",
        ):
            await work.run(text(one), {"org": organization})
        here = await work.first(text("SELECT current_database() AS name"))
    assert here is not None
    owner = await asyncpg.connect(os.environ["AGENTOS_TEST_SUPERUSER_URL"], database=here.name)
    await owner.execute("ANALYZE agentos.artifact_passages")  # as the server does by itself within a minute
    await owner.close()


async def looked_at(archive: Archive, words: str, *, bound: int, newest: int = 5, **filters: Any) -> int:
    """How many passages are read to find words, by indexes."""
    async with archive.runs.doors.open(archive.runs.organization) as work:
        await work.run(text("SET LOCAL enable_seqscan = off"))
        await store.by_words(work, words, Filters(**filters), bound=bound, newest=newest, ranked=10, most=10)
        found = await work.first(
            text(
                "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read AS read FROM pg_stat_xact_user_tables "
                "WHERE relname = 'artifact_passages'"
            )
        )
    assert found is not None
    return int(found.read)


async def test_no_filter_makes_a_search_look_at_more_than_its_bound(archive: Archive) -> None:
    run_id = await archive.run("look", {"body": "invoice"}, name="rare")
    await invoices(archive, archive.runs.organization)
    read = await looked_at(archive, "invoice", bound=600, agent="rare")
    assert 0 < read <= 600 + 10 + 5
    assert [hit.use.run_id for hit in (await archive.search("invoice", agent="rare")).hits] == [run_id]


async def test_a_search_reads_nothing_of_another_organization(archive: Archive) -> None:
    run_id = await archive.run("look", {"body": "invoice"})
    other = OrgId(archive.runs.organization + "_b")
    await identity.found_organization(archive.runs.doors.database, other, name="Other")
    await invoices(archive, other)
    read = await looked_at(archive, "invoice", bound=3000)
    assert 0 < read < 10
    assert [hit.use.run_id for hit in (await archive.search("invoice")).hits] == [run_id]


async def test_what_a_filter_lets_through_is_found_behind_more_than_is_looked_at(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.embeddings = Away()
    await invoices(archive, archive.runs.organization)
    monkeypatch.setattr(search, "LOOKED_AT", 1)  # so each word has its least share
    run_id = await archive.run("look", {"body": "invoice"}, name="rare")
    assert not (await archive.search("invoice", run="another")).hits
    for filters in ({"agent": "rare"}, {"run": run_id}, {"kind": "read"}, {"since": now() - timedelta(hours=1)}):
        assert [hit.use.run_id for hit in (await archive.search("invoice", **filters)).hits] == [run_id], filters


async def test_what_is_to_be_left_out_is_not_found_as_it_stands(archive: Archive) -> None:
    archive.embeddings = Away()
    kept = await archive.run("look", {"body": "an invoice of jones"})
    await archive.run("look", {"body": "an invoice smith sent"})
    assert [hit.use.run_id for hit in (await archive.search("invoice -smith")).hits] == [kept]


async def test_a_common_word_keeps_nothing_that_is_rare_from_being_found(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await invoices(archive, archive.runs.organization)
    monkeypatch.setattr(search, "LOOKED_AT", 1)  # so each word has its least share
    monkeypatch.setattr(search, "RANKED", 10)
    rare = await archive.run("look", {"body": "the zeppelin, and an invoice"})
    assert (await archive.search("zeppelin invoice")).hits[0].use.run_id == rare
    assert (await archive.search("invoice or zeppelin")).hits[0].use.run_id == rare


async def test_a_search_costs_no_more_after_it_was_made_a_few_times(archive: Archive) -> None:
    """PostgreSQL plans without the values from the sixth time on: the vector must not be read for each passage."""
    async with archive.runs.doors.open(archive.runs.organization) as work:
        found = await work.first(
            text("SELECT prosrc FROM pg_proc WHERE oid = 'artifacts_by_likeness'::regproc"),
        )
    assert found is not None and found.prosrc.count("p_vector") == 1 and "AS MATERIALIZED" in found.prosrc


async def test_a_misspelt_word_is_looked_for_as_the_one_that_is_held_and_said(archive: Archive) -> None:
    run_id = await archive.run("look", {"body": "the harbour crane was repaired, and the weather stayed mild and dry"})
    for said, meant in (("harbuor", "harbour"), ("Harborur", "harbour"), ("cranne", "crane"), ("repzired", "repaired")):
        found = await archive.search(said)
        assert dict(found.spelt) == {said.lower(): meant}, said
        assert (found.hits[0].use.run_id, f"«{meant}»" in found.hits[0].snippet) == (run_id, True)
        assert "words" in found.hits[0].ways
    for said in ("harbour", "zxqwv", '"harbuor"', "weather -harbuor", "run_harbuor", "harbuor7", "mlid7"):
        assert not (await archive.search(said)).spelt, said


async def test_of_words_as_near_the_one_of_the_same_letters_is_meant_then_the_one_that_most_hold(
    archive: Archive,
) -> None:
    await archive.run("look", {"body": "trial"})
    for number in range(3):
        await archive.run("look", {"body": f"trail {number}", "about": "trips"})
    await archive.run("look", {"body": "strips"})
    assert dict((await archive.search("trisp")).spelt) == {"trisp": "trips"}, "not strips"
    assert dict((await archive.search("traal")).spelt) == {"traal": "trail"}


async def test_nothing_is_spelt_out_for_who_may_not_see_all_nor_for_another_organization(archive: Archive) -> None:
    await archive.run("look", {"from": "Smithers"})

    async def masked(stored: Stored) -> Any:
        return {"from": "[REDACTED: NAME]"} if stored.use.kind is Kind.READ else stored.value

    assert not (await archive.search("Smihters", see=masked)).spelt
    assert (await archive.search("Smihters")).spelt
    other = OrgId(archive.runs.organization + "_b")
    found = await archive.evidence.search(
        other, "Smihters", Filters(), most=10, see=everything, masks=False, corrects=True
    )
    assert not found.spelt and not found.hits


async def test_a_word_that_nothing_new_held_for_long_is_forgotten(archive: Archive) -> None:
    await archive.run("look", {"body": "zeppelin"})
    database, kept = archive.runs.doors.database, indexing.WORDS_KEPT
    assert await forget(database, kept, at=now() + kept.kept - timedelta(days=1)) == 0
    assert (await archive.search("zepplein")).spelt
    assert await forget(database, kept, at=now() + kept.kept + timedelta(days=2)) > 0
    assert not (await archive.search("zepplein")).spelt
    assert kept in worker.KEPT
