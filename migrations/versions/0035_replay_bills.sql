-- A recorded run that is executed again under live models has an id replay_… of its own in budgets, and no row of runs.
CREATE INDEX replay_bills ON budget_runs (run_id COLLATE "C") WHERE starts_with(run_id, 'replay_');

-- Settle those that were begun before then and are not over: their process was lost, and what was reserved counts as
-- spent. And forget those that are over. How many there were.
CREATE FUNCTION replay_bills_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  one budget_runs;
  done bigint := 0;
BEGIN
  FOR one IN
    SELECT * FROM budget_runs r
    WHERE starts_with(r.run_id, 'replay_') AND r.run_id COLLATE "C" < 'replay_' || typeid_time(p_before)
    LIMIT p_most FOR UPDATE SKIP LOCKED
  LOOP
    IF NOT one.is_over THEN
      PERFORM budget_settle(one.org, one.run_id, jsonb_build_object(
        'agent', one.agent_id, 'segment', one.segment, 'attempt', one.attempt, 'money', one.money,
        'tokens', one.tokens, 'steps', one.steps, 'seconds', one.seconds, 'calls', one.calls,
        'unknown', one.unknown_calls, 'unanswered', one.step, 'released', false, 'final', true), NULL);
    END IF;
    DELETE FROM budget_runs r WHERE r.org = one.org AND r.run_id = one.run_id;
    done := done + 1;
  END LOOP;
  RETURN done;
END $$;

REVOKE EXECUTE ON FUNCTION replay_bills_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION replay_bills_forget TO agentos_system;
