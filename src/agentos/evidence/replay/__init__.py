"""What would have been: recorded actions, and actions that are only thought of, put before a policy that is proposed.

In: journals, measured times of approvals, a proposal. Out: what policy would say, beside what it said. Nothing live is
touched: every look is a transaction that cannot write.
"""
