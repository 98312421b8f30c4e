"""What happened, and was it any good: outside systems are told of facts."""
