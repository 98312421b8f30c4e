"""Tokens, money and seconds. In: journals of runs that are over, questions, replays. Out: usage by day, and burn.

Each run, question and lost call is counted once. What nobody knows is counted apart and said, never as nothing.
"""
