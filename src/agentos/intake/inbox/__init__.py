"""What people write and answer in channels. In: messages over the API and signed Slack actions. Out: facts with ids.

A thread has a short number in its organization. "approve 42 because …" answers what thread 42 asks; the answer goes on
as a fact, whoever settles it writes the outcome back, once for each message. What a thread is about is an id here.
"""
