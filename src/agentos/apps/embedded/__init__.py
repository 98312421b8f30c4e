"""The whole platform on one machine: PostgreSQL, Temporal, the API and workers under one supervisor.

In flows a home folder and the environment; decided is what runs (the engines of the wheels, or the clusters given by
DATABASE_URL and TEMPORAL_ADDRESS); out flow running services, a state file that anyone may read, and one log per
service. ``verbs`` holds what the command line does; ``postgres.Server`` and ``temporal.Server`` serve tests and
benchmarks on their own.

The supervisor has no control protocol: it writes ``state.json``, reads ``desired.json`` when SIGUSR1 arrives, and sees
every death through a pidfd. So nothing is lost when it is killed: the next one reads the same files and adopts what
lives.
"""
