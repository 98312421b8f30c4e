"""The only code that addresses people. In: what approvals and the inbox publish. Out: messages, and threads that ask.

One row for each message to one person by one channel: a fact that comes again sends nothing twice. At least once, with
the same key on every try: a worker that dies between sending and writing it down sends the message again.
"""
