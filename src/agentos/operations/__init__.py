"""Stage five: keep it healthy."""
