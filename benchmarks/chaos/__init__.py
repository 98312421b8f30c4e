"""Chaos: kill the services of a real stack at random while runs go on, and count what was lost or doubled.

    make chaos                                       the full one: 300 kills, 2,000 runs
    python -m benchmarks.chaos --short               the one of the tests: 24 kills, 100 runs
    python -m benchmarks.chaos --seed 7 --keep       the same dice again, and the home stays for a look

``experiment`` tells the story; ``killer`` kills, ``people`` answer, ``receivers`` keep the record that decides what
really happened outside, ``measure`` turns journals and records into rows. What the agents do is in ``behaviours`` and
``skills``, which the workers load.
"""
