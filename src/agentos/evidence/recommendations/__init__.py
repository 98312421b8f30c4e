"""What the figures of a scope advise. In: its runs and its drift. Out: recommendations, which people settle.

Of each kind and scope one is open or accepted at a time. The rules: docs/reference/quality.md.
"""
