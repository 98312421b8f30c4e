"""Composition roots: the only place where ports meet adapters."""
