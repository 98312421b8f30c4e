"""Metrics from one catalogue, logs as JSON, and spans. What is measured once is exported under all its names."""

from agentos.kernel.telemetry.catalogue import CATALOGUE, Metric
from agentos.kernel.telemetry.logs import configure_logs
from agentos.kernel.telemetry.metrics import Meter
from agentos.kernel.telemetry.traces import Traces

__all__ = ["CATALOGUE", "Meter", "Metric", "Traces", "configure_logs"]
