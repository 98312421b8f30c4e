"""What a durable step and a durable run cost, beside DBOS, LangGraph and one-activity-per-step Temporal.

A step is one entry of the journal that is committed before the next begins. An N-step run of ours is an agent of the
stub model: N/2 answers of the model and N/2 calls of a skill that writes (S1), each call with its intent committed
before it and its result after it, under fence, policy and row-level security. A peer's is N recorded steps that do
nothing either. Peers run in an environment of their own, on the same PostgreSQL server and the same Temporal.

- steps.py      the agents of the benchmark: their skills and behaviour
- inside.py     a process of ours whose callers stand within it
- over_http.py  callers of a real API process
- rows.py       from figures to rows, with their targets
- __main__.py   the rounds, and what is measured once
"""
