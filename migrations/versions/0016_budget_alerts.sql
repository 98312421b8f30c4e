-- The caps of single runs are told like those of days and months, and overshoots are counted where they fall.

ALTER TABLE budget_runs ADD told text[] NOT NULL DEFAULT '{}';  -- which of the run's caps were told to be reached
ALTER TABLE budget_periods ADD overshot_calls bigint NOT NULL DEFAULT 0;  -- calls that cost more than was reserved
COMMENT ON COLUMN notifications.cause IS 'the fact''s position on the outbox, or what an alert is told once for';
COMMENT ON COLUMN notifications.about IS 'an approval, or of an alert its thread, by id';

-- What a cap of a run is remembered by once it was told.
CREATE FUNCTION budget_run_cap(p_subject text, p_of_version boolean, p_resource text, p_most bigint, p_percent integer)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT concat_ws(' ', CASE WHEN p_of_version THEN 'version' ELSE p_subject END, p_resource, p_most, p_percent)
$$;

-- Tell that 75 or 100 % of a cap of this run are spent, once for each: caps that are set for each run, and those of its
-- version, which p_money and p_tokens are. p_told is what was told before; back comes what is told now.
CREATE FUNCTION budget_tell_run(
  p_org text, p_agent text, p_run text, p_on date, p_told text[], p_money bigint, p_tokens bigint,
  p_used_money bigint, p_used_tokens bigint, p_used_steps bigint, p_used_seconds bigint
) RETURNS text[] LANGUAGE sql AS $$
  WITH caps AS (
    SELECT CASE b.agent_id WHEN '' THEN 'organization' ELSE 'agent:' || b.agent_id END AS subject, false AS of_version,
           b.money, b.tokens, b.steps, b.seconds
    FROM budgets b WHERE b.org = p_org AND b.agent_id IN ('', p_agent) AND b.period = 'run'
    UNION ALL
    SELECT 'agent:' || p_agent, true, p_money, p_tokens, NULL, NULL
  ), reached AS (
    SELECT c.subject, c.of_version, r.resource, r.most, r.used, t.percent, k.told
    FROM caps c
    CROSS JOIN LATERAL (
      VALUES ('money', c.money, p_used_money), ('tokens', c.tokens, p_used_tokens),
             ('steps', c.steps, p_used_steps), ('seconds', c.seconds, p_used_seconds)) AS r (resource, most, used)
    CROSS JOIN (VALUES (75), (100)) AS t (percent)
    CROSS JOIN LATERAL (SELECT budget_run_cap(c.subject, c.of_version, r.resource, r.most, t.percent)) AS k (told)
    WHERE r.most IS NOT NULL AND r.used > 0 AND r.used * 100 >= r.most * t.percent AND k.told <> ALL (p_told)
  ), written AS (
    INSERT INTO outbox (org, name, key, body)
    SELECT p_org, 'BudgetReached', r.subject,
           jsonb_build_object('subject', r.subject, 'period', 'run', 'since', p_on, 'resource', r.resource,
                              'percent', r.percent, 'most', r.most, 'used', r.used, 'run_id', p_run,
                              'of_version', r.of_version)
    FROM reached r ORDER BY r.subject, r.of_version, r.resource, r.percent
  )
  SELECT coalesce(array_agg(r.told), '{}') FROM reached r
$$;

-- Count what a run's journal says by now, and close what is reserved for it. Counting again counts nothing twice, since
-- the bill holds totals of the whole journal. The bill's fields: agent; segment and attempt, whose bill it is; money,
-- tokens, steps, seconds, calls and unknown, the totals; most_money and most_tokens, what the run's version allows it,
-- or null; unanswered, the step that the journal has no answer of; released, whether that step's call surely costs
-- nothing, else it is spent at its reserve and counted as unknown; final, at the run's end. True: more was billed than
-- was reserved. What was reserved on a day is spent on that day.
CREATE OR REPLACE FUNCTION budget_settle(p_org text, p_run text, p_bill jsonb, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  agent text := p_bill ->> 'agent';
  is_final boolean := coalesce((p_bill ->> 'final')::boolean, false);
  said budget_runs;
  seen budget_runs;
  held budget_runs;
  has_more boolean;
  is_lost boolean;
  spent_on date;
  overshot boolean;
  is_capped boolean;
  told_now text[] := '{}';
BEGIN
  IF p_bill IS NULL THEN
    RETURN false;
  END IF;
  PERFORM set_config('agentos.organization', p_org, true);
  said.money := (p_bill ->> 'money')::bigint;
  said.tokens := (p_bill ->> 'tokens')::bigint;
  said.steps := (p_bill ->> 'steps')::bigint;
  said.seconds := (p_bill ->> 'seconds')::bigint;
  said.calls := (p_bill ->> 'calls')::bigint;
  said.unknown_calls := (p_bill ->> 'unknown')::bigint;
  SELECT * INTO seen FROM budget_runs r WHERE r.org = p_org AND r.run_id = p_run;
  IF (seen.segment, seen.attempt) > ((p_bill ->> 'segment')::integer, (p_bill ->> 'attempt')::integer) THEN
    RETURN false;  -- what is reserved now is a later attempt's
  END IF;
  held := seen;
  IF held.run_id IS NULL THEN
    IF said.calls = 0 AND said.seconds = 0 THEN
      RETURN false;
    END IF;
    held := ROW(p_org, p_run, agent, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, false, '{}'::text[]);
  END IF;
  -- Totals only rise; an older attempt that says less takes nothing back.
  said.money := greatest(said.money - held.money, 0);
  said.tokens := greatest(said.tokens - held.tokens, 0);
  said.steps := greatest(said.steps - held.steps, 0);
  said.seconds := greatest(said.seconds - held.seconds, 0);
  said.calls := greatest(said.calls - held.calls, 0);
  said.unknown_calls := greatest(said.unknown_calls - held.unknown_calls, 0);
  has_more := said.money + said.tokens + said.steps + said.seconds + said.calls > 0;
  IF held.step IS NULL AND NOT has_more AND NOT is_final THEN
    RETURN false;
  END IF;
  is_lost := held.step IS NOT DISTINCT FROM (p_bill ->> 'unanswered') AND held.step IS NOT NULL
             AND NOT coalesce((p_bill ->> 'released')::boolean, false);
  overshot := held.step IS NOT NULL AND held.step IS DISTINCT FROM (p_bill ->> 'unanswered')
              AND (said.money > held.reserved_money OR said.tokens > held.reserved_tokens);
  spent_on := coalesce(held.reserved_on, (coalesce(p_at, clock_timestamp()) AT TIME ZONE 'UTC')::date);
  IF held.step IS NOT NULL OR has_more THEN
    PERFORM budget_lock(p_org, agent, spent_on);
    PERFORM budget_add(p_org, agent, spent_on,
      said.money + CASE WHEN is_lost THEN held.reserved_money ELSE 0 END,
      said.tokens + CASE WHEN is_lost THEN held.reserved_tokens ELSE 0 END,
      said.steps, said.seconds,
      said.calls + is_lost::int, said.unknown_calls + is_lost::int,
      -held.reserved_money, -held.reserved_tokens);
  END IF;
  IF overshot THEN
    UPDATE budget_periods p SET overshot_calls = p.overshot_calls + 1
    WHERE p.org = p_org AND p.agent_id IN ('', agent)
      AND p.since = CASE p.period WHEN 'day' THEN spent_on ELSE date_trunc('month', spent_on)::date END;
  END IF;
  is_capped := EXISTS (SELECT FROM budgets b WHERE b.org = p_org);
  IF (p_bill ->> 'most_money') IS NOT NULL OR (p_bill ->> 'most_tokens') IS NOT NULL OR is_capped AND EXISTS
     (SELECT FROM budgets b WHERE b.org = p_org AND b.agent_id IN ('', agent) AND b.period = 'run') THEN
    told_now := budget_tell_run(p_org, agent, p_run, spent_on, held.told,
      (p_bill ->> 'most_money')::bigint, (p_bill ->> 'most_tokens')::bigint,
      held.money + held.lost_money + said.money + CASE WHEN is_lost THEN held.reserved_money ELSE 0 END,
      held.tokens + held.lost_tokens + said.tokens + CASE WHEN is_lost THEN held.reserved_tokens ELSE 0 END,
      held.steps + said.steps, held.seconds + said.seconds);
  END IF;
  IF seen.run_id IS NOT NULL THEN
    PERFORM FROM budget_runs r WHERE r.org = p_org AND r.run_id = p_run AND r IS NOT DISTINCT FROM seen FOR UPDATE;
    IF NOT FOUND THEN  -- another attempt moved in between; its caller is told to try again
      RAISE EXCEPTION 'the budget of run % moved', p_run USING ERRCODE = '40001';
    END IF;
    UPDATE budget_runs r SET
      money = r.money + said.money, tokens = r.tokens + said.tokens, steps = r.steps + said.steps,
      seconds = r.seconds + said.seconds, calls = r.calls + said.calls,
      unknown_calls = r.unknown_calls + said.unknown_calls,
      lost_money = r.lost_money + CASE WHEN is_lost THEN r.reserved_money ELSE 0 END,
      lost_tokens = r.lost_tokens + CASE WHEN is_lost THEN r.reserved_tokens ELSE 0 END,
      step = NULL, reserved_on = NULL, reserved_money = 0, reserved_tokens = 0, is_over = r.is_over OR is_final,
      told = r.told || told_now
    WHERE r.org = p_org AND r.run_id = p_run;
  ELSIF NOT is_final THEN  -- nobody counts a run again that is over
    INSERT INTO budget_runs VALUES (p_org, p_run, agent, 0, 0, said.money, said.tokens, said.steps, said.seconds,
                                    said.calls, said.unknown_calls, 0, 0, NULL, NULL, 0, 0, false, told_now)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the budget of run % moved', p_run USING ERRCODE = '40001';
    END IF;
  END IF;
  IF overshot THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'BudgetOvershot', p_run, jsonb_build_object(
      'run_id', p_run, 'step', held.step, 'reserved_money', held.reserved_money, 'billed_money', said.money,
      'reserved_tokens', held.reserved_tokens, 'billed_tokens', said.tokens,
      'agent_id', agent, 'since', spent_on));
  END IF;
  IF is_capped THEN
    PERFORM budget_tell(p_org, agent, spent_on);
  END IF;
  RETURN overshot;
END $$;

-- Reserve the most that a model call can cost, if every cap has room for it beside what is spent and reserved; what was
-- reserved for the run before is settled as the bill says (see budget_settle). The verdict:
--   'ok'         it is reserved
--   'exhausted'  a cap has no room: the other fields say which; nothing was reserved
--   'fenced'     a later attempt owns the run; nothing was done
-- p_most_money and p_most_tokens are what the run's version allows the run. Locks in the order: organization's day and
-- month, agent's day and month, run.
CREATE OR REPLACE FUNCTION budget_reserve(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_step text, p_bill jsonb,
  p_money bigint, p_tokens bigint, p_most_money bigint, p_most_tokens bigint, p_at timestamptz,
  OUT verdict text, OUT cap_of text, OUT period text, OUT since date, OUT resource text,
  OUT most bigint, OUT used bigint, OUT reserved bigint, OUT wanted bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  agent text := p_bill ->> 'agent';
  today date := (coalesce(p_at, clock_timestamp()) AT TIME ZONE 'UTC')::date;
  this_month date := date_trunc('month', today)::date;
  held budget_runs;
  full_cap text;
  whose text;
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  SELECT * INTO held FROM budget_runs r WHERE r.org = p_org AND r.run_id = p_run;
  IF held.is_over OR (held.segment, held.attempt) > (p_segment, p_attempt) THEN
    verdict := 'fenced';
    RETURN;
  END IF;
  PERFORM budget_settle(p_org, p_run, p_bill, p_at);
  PERFORM budget_lock(p_org, agent, today);
  INSERT INTO budget_runs VALUES (p_org, p_run, agent, p_segment, p_attempt, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0,
                                  false)
  ON CONFLICT DO NOTHING;
  SELECT * INTO held FROM budget_runs r WHERE r.org = p_org AND r.run_id = p_run FOR UPDATE;
  IF held.is_over OR (held.segment, held.attempt) > (p_segment, p_attempt) THEN
    verdict := 'fenced';
    RETURN;
  END IF;
  IF held.step IS NOT NULL THEN
    RAISE EXCEPTION 'the budget of run % moved', p_run USING ERRCODE = '40001';
  END IF;
  SELECT c.cap_of, c.period, c.since, r.resource, r.most, r.used, r.reserved, r.wanted
    INTO cap_of, period, since, resource, most, used, reserved, wanted
  FROM (
    SELECT CASE b.agent_id WHEN '' THEN 'organization' ELSE 'agent' END AS cap_of, b.period, p.since,
           b.money AS most_money, b.tokens AS most_tokens, b.steps AS most_steps, b.seconds AS most_seconds,
           p.money, p.tokens, p.steps, p.seconds, p.reserved_money, p.reserved_tokens
    FROM budgets b JOIN budget_periods p ON p.org = b.org AND p.agent_id = b.agent_id AND p.period = b.period
      AND p.since = CASE b.period WHEN 'day' THEN today ELSE this_month END
    WHERE b.org = p_org AND b.agent_id IN ('', agent)
    UNION ALL
    SELECT CASE b.agent_id WHEN '' THEN 'organization' ELSE 'agent' END, b.period, NULL,
           b.money, b.tokens, b.steps, b.seconds,
           held.money + held.lost_money, held.tokens + held.lost_tokens, held.steps, held.seconds, 0, 0
    FROM budgets b WHERE b.org = p_org AND b.agent_id IN ('', agent) AND b.period = 'run'
    UNION ALL
    SELECT 'version', 'run', NULL, p_most_money, p_most_tokens, NULL, NULL,
           held.money + held.lost_money, held.tokens + held.lost_tokens, held.steps, held.seconds, 0, 0
  ) AS c
  CROSS JOIN LATERAL (
    VALUES (1, 'money', c.most_money, c.money, c.reserved_money, p_money),
           (2, 'tokens', c.most_tokens, c.tokens, c.reserved_tokens, p_tokens),
           (3, 'steps', c.most_steps, c.steps, 0, 1), (4, 'seconds', c.most_seconds, c.seconds, 0, 1)
  ) AS r (place, resource, most, used, reserved, wanted)
  WHERE r.most IS NOT NULL AND r.wanted > 0 AND r.used + r.reserved + r.wanted > r.most
  ORDER BY array_position(ARRAY['organization', 'agent', 'version'], c.cap_of), c.period, r.place
  LIMIT 1;
  IF cap_of IS NOT NULL THEN
    verdict := 'exhausted';
    IF period IN ('day', 'month') THEN  -- there is no room for what is asked: that is told like 100 %
      WITH told AS (
        INSERT INTO budget_alerts (org, agent_id, period, since, resource, most, percent)
        SELECT p_org, CASE cap_of WHEN 'agent' THEN agent ELSE '' END, period, since, resource, most, 100
        ON CONFLICT DO NOTHING RETURNING 1
      )
      INSERT INTO outbox (org, name, key, body)
      SELECT p_org, 'BudgetReached', k.subject,
             jsonb_build_object('subject', k.subject, 'period', period, 'since', since, 'resource', resource,
                                'percent', 100, 'most', most, 'used', used)
      FROM told, (SELECT CASE cap_of WHEN 'agent' THEN 'agent:' || agent ELSE 'organization' END AS subject) AS k;
    ELSE
      whose := CASE cap_of WHEN 'organization' THEN 'organization' ELSE 'agent:' || agent END;
      full_cap := budget_run_cap(whose, cap_of = 'version', resource, most, 100);
      IF full_cap <> ALL (held.told) THEN
        INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'BudgetReached', whose, jsonb_build_object(
          'subject', whose, 'period', 'run', 'since', today, 'resource', resource, 'percent', 100, 'most', most,
          'used', used, 'run_id', p_run, 'of_version', cap_of = 'version'));
        UPDATE budget_runs r SET told = r.told || full_cap WHERE r.org = p_org AND r.run_id = p_run;
      END IF;
    END IF;
    RETURN;
  END IF;
  PERFORM budget_add(p_org, agent, today, 0, 0, 0, 0, 0, 0, p_money, p_tokens);
  UPDATE budget_runs r SET segment = p_segment, attempt = p_attempt, step = p_step, reserved_on = today,
    reserved_money = p_money, reserved_tokens = p_tokens
  WHERE r.org = p_org AND r.run_id = p_run;
  verdict := 'ok';
END $$;

REVOKE EXECUTE ON FUNCTION budget_run_cap, budget_tell_run FROM PUBLIC;
GRANT EXECUTE ON FUNCTION budget_run_cap, budget_tell_run TO agentos_app;
