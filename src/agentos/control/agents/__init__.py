"""Agents and their immutable versions. In: manifests. Decided: valid or not, new or known. Out: versions named by hash."""
