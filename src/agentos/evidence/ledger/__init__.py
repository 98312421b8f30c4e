"""The ledger: every fact of an organization, chained by a key in the order in which it was committed.

In flow facts of the outbox, sealed as they were written. What is decided: whether each is still as it was written, and
its place in the chain. Out flow entries that are found, exported and verified, and what was in force at any moment.
"""
