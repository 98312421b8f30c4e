"""Metrics from one catalogue, and logs as JSON. What is measured once is exported under every name it is known by."""

from agentos.kernel.telemetry.catalogue import CATALOGUE, Metric
from agentos.kernel.telemetry.logs import configure_logs
from agentos.kernel.telemetry.metrics import Meter

__all__ = ["CATALOGUE", "Meter", "Metric", "configure_logs"]
