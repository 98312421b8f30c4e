"""One measurement under every name, and nothing told that nobody measured."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from agentos.kernel.telemetry import CATALOGUE, Meter, Metric, catalogue
from agentos.kernel.telemetry.catalogue import (
    MODEL_CALLS,
    MODEL_SECONDS,
    MODEL_TOKENS,
    REGISTRY_SIZE,
    SKILL_SECONDS,
)
from agentos.kernel.telemetry.metrics import merged

WHERE = {"org": "acme", "agent_id": "a", "deployment": "d"}


def samples(page: bytes, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_no_two_measurements_share_a_name() -> None:
    names = Counter(name for metric in CATALOGUE for name in metric.names)
    assert not [name for name, times in names.items() if times > 1]


def test_every_metric_is_in_the_catalogue_once() -> None:
    made = {name: one for name, one in vars(catalogue).items() if isinstance(one, Metric)}
    assert Counter(one.name for one in made.values()) == Counter(one.name for one in CATALOGUE)


def test_another_name_tells_the_same_series() -> None:
    meter = Meter()
    meter.count(MODEL_TOKENS, 7, **WHERE, provider="stub", direction="input")
    meter.observe(SKILL_SECONDS, 0.2, skill="look", status="ok")
    page = meter.page()
    assert samples(page, "aos_llm_tokens_total") == samples(page, "agentos_model_tokens_total") != {}
    for part in ("bucket", "sum", "count"):
        theirs, ours = f"aos_skill_duration_seconds_{part}", f"agentos_skill_call_duration_seconds_{part}"
        assert samples(page, theirs) == samples(page, ours) != {}


def test_calls_and_errors_have_equal_labels_so_that_one_can_be_divided_by_the_other() -> None:
    meter = Meter()
    for status in ("ok", "ok", "ERR_LLM_TIMEOUT", "ERR_LLM_OVERLOADED"):
        meter.count(MODEL_CALLS, **WHERE, provider="claude", status=status)
    key = tuple(sorted({**WHERE, "provider": "claude"}.items()))
    assert samples(meter.page(), "aos_llm_calls_total") == {key: 4}
    assert samples(meter.page(), "aos_llm_errors_total") == {key: 2}


def test_where_no_call_failed_the_errors_are_zero_and_where_none_was_made_they_are_unknown() -> None:
    meter = Meter()
    assert samples(meter.page(), "aos_llm_errors_total") == {}
    meter.count(MODEL_CALLS, **WHERE, provider="stub", status="ok")
    assert list(samples(meter.page(), "aos_llm_errors_total").values()) == [0]


def test_a_gauge_that_nobody_set_is_not_told() -> None:
    page = Meter().page()
    told = [name for metric in CATALOGUE if metric.kind == "gauge" for name in metric.names if samples(page, name)]
    assert not told


def test_a_gauge_that_was_set_is_told_until_it_is_cleared() -> None:
    meter = Meter()
    meter.set(REGISTRY_SIZE, 0)
    assert samples(meter.page(), "aos_registry_size") == {(): 0}
    meter.clear(REGISTRY_SIZE)
    assert samples(meter.page(), "aos_registry_size") == {}


def test_a_merged_page_keeps_every_name() -> None:
    meter = Meter()
    meter.count(MODEL_CALLS, **WHERE, provider="stub", status="ok")
    meter.observe(MODEL_SECONDS, 31, provider="stub")
    page = merged([("w1", meter.page().decode()), ("w2", meter.page().decode())])
    assert len(samples(page, "aos_llm_calls_total")) == 2
    assert len(samples(page, "aos_llm_latency_seconds_count")) == 2
