"""What control costs: decisions, approvals, stops, budgets and the finding of personal data.

- decision.py   one decision of policy, with little and with much written
"""
