"""A person answers, or the time runs out. In: a call with its canonical arguments. Out: a yes bound to those arguments.

Approvals stay with the run's organization, which says whom to ask and by when (``routing.py``). Whoever started a call
in some way may not approve it; a call of class S4 needs two different people. Control addresses nobody: what a person
should know is a fact (requested, passed, reminded, SLA missed, escalated, rerouted, decided, expired).
"""
