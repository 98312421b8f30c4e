"""What control costs: decisions, approvals, stops, budgets and the finding of personal data.

- kills.py      runs at work are killed, a hundred times fifty
"""
