"""Where secrets come from: one file per place."""
