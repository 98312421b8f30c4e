"""What control costs and what it holds: each module measures one part of control and has its rows.

- budgets.py    50 runs at once under 3 caps
"""
