"""The demo: one agent on a real repository, from its manifest to a rollback and a killed worker, all checked."""
