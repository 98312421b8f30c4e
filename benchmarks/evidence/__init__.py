"""What evidence costs and what it holds. Each module measures one part of evidence and has its rows.

- ledger.py     facts written by many processes and chained; chains verified; tamperings found
- tamperer.py   random changes to a chain, straight in its tables
- writer.py     one of the processes that write
- evals.py      a data set of 1,000 cases with a model that costs no time, beside Inspect AI
- search.py     artifacts found by words and by likeness
"""
