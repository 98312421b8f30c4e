-- A direct question to a model has an id ask_… and no run, so its row of budget_runs is all that is left of it.

CREATE INDEX asks ON budget_runs (run_id COLLATE "C") WHERE starts_with(run_id, 'ask_');

CREATE POLICY system ON budgets FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON budget_periods TO agentos_owner USING (true);
CREATE POLICY system ON budget_runs TO agentos_owner USING (true);
CREATE POLICY system ON budget_alerts TO agentos_owner USING (true);

-- The first ten characters of a TypeID that is made at that time: its 48 bits of milliseconds, five in each.
CREATE FUNCTION typeid_time(p_at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = agentos AS $$
  SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', ((t.ms >> (45 - 5 * i)) & 31)::int + 1, 1), '' ORDER BY i)
  FROM (SELECT (extract(epoch FROM p_at) * 1000)::bigint AS ms) AS t, generate_series(0, 9) AS i
$$;

-- Settle asks that were begun before then and are not over: their process was lost while a model was asked, so what was
-- reserved counts as spent. And forget those that are over. How many there were.
CREATE FUNCTION asks_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  one budget_runs;
  done bigint := 0;
BEGIN
  FOR one IN
    SELECT * FROM budget_runs r
    WHERE starts_with(r.run_id, 'ask_') AND r.run_id COLLATE "C" < 'ask_' || typeid_time(p_before)
    LIMIT p_most FOR UPDATE SKIP LOCKED
  LOOP
    IF NOT one.is_over THEN
      PERFORM budget_settle(one.org, one.run_id, jsonb_build_object(
        'agent', one.agent_id, 'segment', one.segment, 'attempt', one.attempt, 'money', one.money,
        'tokens', one.tokens, 'steps', one.steps, 'seconds', one.seconds, 'calls', one.calls,
        'unknown', one.unknown_calls, 'unanswered', one.step, 'released', false, 'final', true), NULL);
      INSERT INTO outbox (org, name, key, body) VALUES (one.org, 'ModelAsked', one.run_id, jsonb_build_object(
        'ask_id', one.run_id, 'by', '', 'request_id', '', 'provider', '', 'model', '', 'outcome', 'lost',
        'input_tokens', NULL, 'output_tokens', NULL, 'micros', NULL, 'attempts', '[]'::jsonb));
    END IF;
    DELETE FROM budget_runs r WHERE r.org = one.org AND r.run_id = one.run_id;
    done := done + 1;
  END LOOP;
  RETURN done;
END $$;

REVOKE EXECUTE ON FUNCTION typeid_time, asks_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION asks_forget TO agentos_system;
