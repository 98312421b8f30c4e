"""The worker: executes segments, delivers facts, sweeps, and shows its metrics."""
