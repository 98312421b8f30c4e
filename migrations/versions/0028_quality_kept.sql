-- What a run's confidence was made of: {"mean", "judged", "accepted"}; NULL: it was scored before that was kept.
ALTER TABLE quality_runs ADD COLUMN grounds jsonb;
