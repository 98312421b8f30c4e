-- What a run's confidence was made of: {"mean", "judged", "accepted"}; NULL: it was scored before that was kept.
ALTER TABLE quality_runs ADD COLUMN grounds jsonb;

-- Whether an attempt has calls under way, and how many attempts were lost with some: of those, what was asked and not
-- answered is asked again.
ALTER TABLE evals ADD COLUMN is_held boolean NOT NULL DEFAULT false, ADD COLUMN lost integer NOT NULL DEFAULT 0;
