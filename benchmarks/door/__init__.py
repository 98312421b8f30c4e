"""What the door costs: requests for runs over HTTP, many at once, beside a route that does nothing.

Two hundred callers, each on a connection that it keeps, post a run of an agent whose stub model answers once, each time
with an Idempotency-Key of its own, and post the next as soon as the last is accepted. An accepted run is committed, and
then executed by the API process and a worker process beside it, on the same machine as the callers: what a machine can
accept is what it can also carry out. The peer is a bare route of the same framework and server which validates the same
body and answers 202: what the framework alone would take.

A quiet organization's p95 is taken alone and beside the two hundred callers of a noisy one, in the same round.

- callers.py    a process of callers of one organization
- rows.py       from figures to rows, with their targets
- __main__.py   the rounds
"""
