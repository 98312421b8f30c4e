"""Which version serves, decided on evidence: the only door to a deployment's changes.

In: an order, gates and freezes (evidence/quality), recorded runs (evidence/replay). Decided: whether a version may
serve, whether a canary goes on, whether a rollback helped. Out: a change of the deployment, its figures, and what it
leaves open.
"""
