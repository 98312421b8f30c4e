"""What evidence costs. Each module measures one part of it and has its rows.

- evals.py      a data set of 1,000 cases with a model that costs no time, beside Inspect AI
"""
