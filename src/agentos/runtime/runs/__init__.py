"""Runs: admission, the agent loop and the journal. In: a request for work. Out: a journal and an outcome.

Start with ``loop.py`` (what an agent does), then ``journal.py`` (how each step is made durable), then ``workflow.py``
(where and when). The tour in docs/tour.md follows one run through all three.
"""
