"""The API: every feature's routes, health, and metrics, with a worker inside for runs that end in milliseconds."""
