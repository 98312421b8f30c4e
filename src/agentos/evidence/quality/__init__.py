"""Whether runs were any good. In: every run that ended, what people said of it, gates. Out: figures and judgements.

A figure says how many samples it stands on and its interval; without enough of them it is unknown, and a blocker that
is unknown blocks. Sources, formulas and sample sizes: docs/quality.md.
"""
