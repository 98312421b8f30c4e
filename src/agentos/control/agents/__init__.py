"""Agents and their versions. In: manifests. Decided: valid or not, new or known. Out: versions named by hash."""
