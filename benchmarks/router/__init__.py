"""The router beside its peers, and replays."""
