"""Who asks for what: identity, and requests with their idempotency keys."""
