"""The router beside its peers; its limits, held by several processes; and replays."""
