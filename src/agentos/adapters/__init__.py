"""The outside world: one folder per port, one file per vendor."""
