"""Outside systems are told of what happened. In: every fact, and who wants which. Out: signed CloudEvents.

At least once, with the same webhook-id on every try: each fact becomes one delivery for each subscription that wants
it, and a delivery is sent until the receiver took it, is gone, or a day of tries is over.
"""
