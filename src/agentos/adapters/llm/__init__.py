"""Models behind the port of ``runtime.inference``: one file per wire format, and the stub that needs no wire."""
