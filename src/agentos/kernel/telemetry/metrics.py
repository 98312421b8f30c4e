"""Measure once, export under every name: the catalogue's own and the runbooks'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from agentos.kernel.telemetry.catalogue import CATALOGUE, Metric, Sum

MOST_VALUES: Final = 1000  # of one label in one process; more series than that slow a scrape noticeably
OTHER: Final = "other"  # the value that stands for all beyond the cap
CAPPED: Final = ("org", "agent_id", "deployment", "skill", "model")


class Meter:
    """The measurements of one process. A metric that is not in the catalogue does not exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[str, Counter | Gauge | Histogram] = {}
        self._seen: dict[str, set[str]] = {label: set() for label in CAPPED}
        self._found: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}  # a step measures ten times
        # A gauge without labels would say 0 before anybody has measured: until then it is not told.
        self._unset = {metric.name for metric in CATALOGUE if metric.kind == "gauge" and not metric.labels}
        for metric in CATALOGUE:
            self._series[metric.name] = _made(metric)
        self.registry.register(_Aliased(self._series, self._unset))

    def count(self, metric: Metric, by: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._labelled(metric, labels).inc(by)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add an observation to a histogram."""
        self._labelled(metric, labels).observe(value)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._unset.discard(metric.name)
        self._labelled(metric, labels).set(value)

    def clear(self, metric: Metric) -> None:
        """Forget every series of a gauge, before its stored state is set anew."""
        self._series[metric.name].clear()
        if not metric.labels:
            self._unset.add(metric.name)
        for given in [one for one in self._found if one[0] == metric.name]:
            del self._found[given]

    def page(self) -> bytes:
        """This process's page for Prometheus."""
        return generate_latest(self.registry)

    def _labelled(self, metric: Metric, labels: Mapping[str, str]) -> Any:
        series = self._series[metric.name]
        if not metric.labels:
            return series
        given = (metric.name, tuple(labels.items()))
        found = self._found.get(given)
        if found is None:
            values = [self._capped(name, labels.get(name, "unknown")) for name in metric.labels]
            found = series.labels(*values)
            if OTHER not in values:  # what is beyond the cap comes in without end
                self._found[given] = found
        return found

    def _capped(self, label: str, value: str) -> str:
        seen = self._seen.get(label)
        if seen is None or value in seen:
            return value
        if len(seen) >= MOST_VALUES:
            return OTHER
        seen.add(value)
        return value


def _made(metric: Metric) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=None)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.help, metric.labels, registry=None)
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=None)


class _Aliased(Collector):
    def __init__(self, series: Mapping[str, Counter | Gauge | Histogram], unset: Set[str]) -> None:
        self._series = series
        self._unset = unset

    def collect(self) -> Iterator[Family]:
        for metric in CATALOGUE:
            if metric.name in self._unset:
                continue
            for family in self._series[metric.name].collect():
                yield family
                for name in metric.also:
                    yield _renamed(family, name, family.samples)
                for one in metric.sums:
                    yield _renamed(family, one.name, list(_summed(family.samples, one)))


def _renamed(family: Family, name: str, samples: Iterable[Sample]) -> Family:
    bare = name.removesuffix("_total")
    other = Family(bare, f"{family.documentation} The same measurement as {family.name}.", family.type)
    other.samples = [s._replace(name=s.name.replace(family.name, bare, 1)) for s in samples]
    return other


def _summed(samples: Iterable[Sample], wanted: Sum) -> Iterator[Sample]:
    """One sample for each set of the labels that are left."""
    sums: dict[tuple[tuple[str, str], ...], Sample] = {}
    for sample in samples:
        if not sample.name.endswith("_total"):  # when a series began is of the series that are told apart
            continue
        left = {name: value for name, value in sample.labels.items() if name != wanted.over}
        counts = 0.0 if wanted.but and sample.labels[wanted.over] == wanted.but else sample.value
        kept = sums.setdefault(tuple(left.items()), Sample(sample.name, left, 0.0))
        sums[tuple(left.items())] = kept._replace(value=kept.value + counts)
    yield from sums.values()


def merged(pages: Iterable[tuple[str, str]]) -> bytes:
    """One page of several processes' pages: every sample gains the label ``process``."""
    families: dict[str, Family] = {}
    for process, page in pages:
        for family in text_string_to_metric_families(page):
            kept = families.setdefault(family.name, Family(family.name, family.documentation, family.type))
            kept.samples += [
                Sample(s.name, {**s.labels, "process": process}, s.value, s.timestamp, s.exemplar)
                for s in family.samples
            ]

    class Merged(Collector):
        def collect(self) -> Iterable[Family]:
            return families.values()

    registry = CollectorRegistry()
    registry.register(Merged())
    return generate_latest(registry)
