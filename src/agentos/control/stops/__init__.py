"""Orders that withhold action. In: who stops what, and why. Out: what is in force for one deployment, to be obeyed.

One stack of stops: denylist entries, kill switches, pauses and degraded mode. Setting or lifting one bumps the epoch of
its scope in the same transaction, so no effect is committed on a decision made before it.
"""
