-- A look at drift counts the callers of a whole window, a week of runs, and draws its sample from all of them: without
-- the rows, which hold what was measured of each run and are ten times as large.
DROP INDEX quality_runs_by_deployment, quality_runs_by_category;
CREATE INDEX quality_runs_by_deployment ON quality_runs (org, deployment_id, ended_at) INCLUDE (requested_by, run_id)
  WHERE counted;
CREATE INDEX quality_runs_by_category ON quality_runs (org, category, ended_at) INCLUDE (requested_by, run_id)
  WHERE counted;
