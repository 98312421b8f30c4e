-- What a run's confidence was made of: {"mean", "judged", "accepted"}; NULL: it was scored before that was kept.
ALTER TABLE quality_runs ADD COLUMN grounds jsonb;

-- Whether an attempt has calls under way, and how many attempts were lost with some: of those, what was asked and not
-- answered is asked again.
ALTER TABLE evals ADD COLUMN is_held boolean NOT NULL DEFAULT false, ADD COLUMN lost integer NOT NULL DEFAULT 0;

-- Who asked for a run, so that no caller sways an agent's drift alone.
ALTER TABLE quality_runs ADD COLUMN requested_by text;
ALTER TABLE quality_runs NO FORCE ROW LEVEL SECURITY;
UPDATE quality_runs q SET requested_by = r.requested_by FROM runs r WHERE r.org = q.org AND r.id = q.run_id;
ALTER TABLE quality_runs FORCE ROW LEVEL SECURITY;
ALTER TABLE quality_runs ALTER COLUMN requested_by SET NOT NULL;
