"""What would have been: recorded actions before a proposed policy, and recorded runs executed again.

In: journals, measured times of approvals, a proposal, another version or model. Out: what policy would say beside what
it said; what a run comes to again, and where it parts from its recording. Nothing live is touched: a backtest is a
transaction that cannot write, and a replay reaches no skill, no model and no journal. Only what it came to is kept.
"""
