"""Do it, durably: runs and their journal, skills, and asking models."""
