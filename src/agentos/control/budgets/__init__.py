"""What runs may spend. In: caps, prices, and the most that a model call can cost. Out: a reserve, or which cap is full.

Every model call under a cap is reserved before it is made and settled with the journal row of its answer, so what is
spent and reserved together never passes a cap, in any number of workers. Money is in millionths of a US dollar.
"""
