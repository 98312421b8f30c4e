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

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['quality_feedback', 'quality_recommendations', 'evals', 'eval_answers', 'eval_outcomes'] LOOP
    EXECUTE format('CREATE POLICY system ON %I TO agentos_owner USING (true)', one);
  END LOOP;
END $$;
CREATE POLICY system_forget ON quality_runs FOR DELETE TO agentos_owner USING (true);
CREATE INDEX quality_feedback_by_time ON quality_feedback (said_at);
CREATE INDEX evals_ended ON evals (ended_at) WHERE status <> 'running';
CREATE INDEX eval_bills ON budget_runs (run_id COLLATE "C") WHERE starts_with(run_id, 'eval_');

-- Forget scores of runs that ended before then, what was said before, and recommendations that were settled before; how
-- many scores and words there were.
CREATE FUNCTION quality_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  scores bigint;
  words bigint;
BEGIN
  DELETE FROM quality_runs q USING
    (SELECT o.org, o.run_id FROM quality_runs o WHERE o.ended_at < p_before LIMIT p_most) AS o
  WHERE q.org = o.org AND q.run_id = o.run_id;
  GET DIAGNOSTICS scores = ROW_COUNT;
  DELETE FROM quality_feedback f USING
    (SELECT o.org, o.id FROM quality_feedback o WHERE o.said_at < p_before LIMIT p_most) AS o
  WHERE f.org = o.org AND f.id = o.id;
  GET DIAGNOSTICS words = ROW_COUNT;
  DELETE FROM quality_recommendations r WHERE r.standing IN ('dismissed', 'resolved') AND r.changed_at < p_before;
  RETURN greatest(scores, words);  -- a full batch of either is followed by another
END $$;

-- Forget evals that ended before then, with what came of their cases and what is left of their bills; how many cases, or
-- where none is left evals, there were.
CREATE FUNCTION evals_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  done bigint;
  one record;
BEGIN
  DELETE FROM eval_outcomes o USING (
    SELECT c.org, c.eval_id, c.number, c.repeat, c.side FROM eval_outcomes c JOIN evals e ON e.org = c.org AND e.id = c.eval_id
    WHERE e.status <> 'running' AND e.ended_at < p_before LIMIT p_most) AS c
  WHERE (o.org, o.eval_id, o.number, o.repeat, o.side) = (c.org, c.eval_id, c.number, c.repeat, c.side);
  GET DIAGNOSTICS done = ROW_COUNT;
  IF done = p_most THEN
    RETURN done;
  END IF;
  FOR one IN
    SELECT e.org, e.id FROM evals e WHERE e.status <> 'running' AND e.ended_at < p_before
      AND NOT EXISTS (SELECT FROM eval_outcomes o WHERE o.org = e.org AND o.eval_id = e.id)
    LIMIT p_most FOR UPDATE SKIP LOCKED
  LOOP
    DELETE FROM eval_answers a WHERE a.org = one.org AND a.eval_id = one.id;
    DELETE FROM budget_runs r WHERE r.org = one.org AND starts_with(r.run_id, 'eval_')
      AND r.run_id COLLATE "C" >= one.id || '.' AND r.run_id COLLATE "C" < one.id || '/';
    DELETE FROM evals e WHERE e.org = one.org AND e.id = one.id;
    done := done + 1;
  END LOOP;
  RETURN least(done, p_most);
END $$;

-- Forget the bills of evals that were completed or cancelled before then: nothing of them is settled any more. How many.
CREATE FUNCTION eval_bills_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH gone AS (
    DELETE FROM budget_runs r USING (
      SELECT b.org, b.run_id FROM budget_runs b JOIN evals e ON e.org = b.org AND e.id = split_part(b.run_id, '.', 1)
      WHERE starts_with(b.run_id, 'eval_') AND b.run_id COLLATE "C" < 'eval_' || typeid_time(p_before)
        AND e.status IN ('completed', 'cancelled') AND e.ended_at < p_before LIMIT p_most) AS b
    WHERE r.org = b.org AND r.run_id = b.run_id RETURNING true
  )
  SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION quality_forget, evals_forget, eval_bills_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quality_forget, evals_forget, eval_bills_forget TO agentos_system;
