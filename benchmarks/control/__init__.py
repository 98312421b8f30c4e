"""What control costs and finds: figures of the stage that says whether something may happen."""
