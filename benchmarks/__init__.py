"""Measurements beside the peers, in the same run: ``make bench`` for all, ``make bench-NAME`` for one."""
