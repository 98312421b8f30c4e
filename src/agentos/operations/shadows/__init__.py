"""A version that is shown what runs were given, as they end, without effects.

In: runs that are over. Decided: which of them a shadow is shown, and what each would have come to. Out: statuses, codes
and numbers beside those of the run, never content.
"""
