"""Chaos: kill the services of a real stack at random while runs go on, and count what was lost or doubled.

    make chaos                                       the full one: 300 kills, 2,000 runs, 10 stops
    python -m benchmarks.chaos --short               the one of the tests: 24 kills, 100 runs, 1 stop
    python -m benchmarks.chaos --seed 7 --keep       the same dice again, and the home stays for a look

``experiment`` tells the story; ``killer`` kills services, ``people`` answer, ``stopper`` stops a deployment and has it
proved, ``receivers`` keep the record that decides what really happened outside, ``measure`` turns journals, proofs and
records into rows. What the agents do is in ``behaviours`` and ``skills``, which the workers load.
"""
