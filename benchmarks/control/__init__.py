"""What control costs and what it holds. Each module measures one part of control and has its rows.

- decision.py   one decision of policy, with little and with much written
- kills.py      runs stopped under way: what was committed after the order, and how soon all rest
- budgets.py    50 runs at once under 3 caps
- privacy.py    what is found of a corpus of others' making, and how fast
"""
