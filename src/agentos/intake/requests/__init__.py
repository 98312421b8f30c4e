"""A request for work is carried out once per Idempotency-Key. In: a key and a body. Out: the first answer, for ever."""
