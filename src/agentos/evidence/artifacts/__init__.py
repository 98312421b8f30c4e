"""What runs produced and read: found by words and by likeness, and asked about in plain sentences.

In: journals, by the facts that say there is something new in one; effects, approvals, stops. Out: artifacts by their
SHA-256, and answers of which every sentence cites the entries that it stands on. The bytes stay in the journal.
"""
