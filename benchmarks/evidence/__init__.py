"""What evidence costs: written, verified, found and judged."""
