"""The demo: one agent on a real repository, from its manifest to a rollback and a killed worker, with every claim checked."""
