"""Policy: ordered rules that answer allow, ask, draft or deny for one skill call. Without a yes the answer is no.

In: a call, the tier in force, the stops, and what the organization and the deployment have written. Out: a verdict with
the rule that gave it, why, and the hash of everything that decided. What is written is kept under its hash, for ever;
saving bumps the epoch of its scope in the same transaction, so no effect is committed on what was decided before.
"""
