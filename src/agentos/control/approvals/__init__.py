"""A person answers, or the time runs out. In: a call with its canonical arguments. Out: a yes bound to those arguments.

Approvals stay with the run's organization. Whoever asked for the run may not approve its effects; a call of class S4
needs two different people.
"""
