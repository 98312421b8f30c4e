-- Budgets. Money is in millionths of a US dollar, a bigint everywhere: 9 million million dollars fit. Days and months are
-- UTC's. Every function is one statement for its caller, under row-level security like journal_append.

CREATE TABLE budgets (                   -- a row per cap's subject and period; no row: no cap
  org         text NOT NULL REFERENCES organizations,
  agent_id    text NOT NULL,             -- '': the organization as a whole
  period      text NOT NULL CHECK (period IN ('run', 'day', 'month')),
  money       bigint CHECK (money >= 0),
  tokens      bigint CHECK (tokens >= 0),
  steps       bigint CHECK (steps >= 0),
  seconds     bigint CHECK (seconds >= 0),
  changed_by  text NOT NULL,
  changed_at  timestamptz NOT NULL,
  PRIMARY KEY (org, agent_id, period)
);

CREATE TABLE model_prices (              -- millionths of a dollar for a million tokens, or for a call at most
  org           text NOT NULL REFERENCES organizations,
  provider      text NOT NULL,
  model         text NOT NULL,           -- '*': every model of the provider that has no row of its own
  input         bigint CHECK (input >= 0),
  output        bigint CHECK (output >= 0),
  cache_read    bigint CHECK (cache_read >= 0),
  cache_write   bigint CHECK (cache_write >= 0),
  call_ceiling  bigint CHECK (call_ceiling >= 0),
  changed_by    text NOT NULL,
  changed_at    timestamptz NOT NULL,
  PRIMARY KEY (org, provider, model),
  CHECK ((call_ceiling IS NULL) = (input IS NOT NULL AND output IS NOT NULL))
);

CREATE TABLE budget_periods (            -- what was spent and what is reserved in a day and a month
  org              text NOT NULL,
  agent_id         text NOT NULL,        -- '': the organization as a whole
  period           text NOT NULL CHECK (period IN ('day', 'month')),
  since            date NOT NULL,
  money            bigint NOT NULL DEFAULT 0,
  tokens           bigint NOT NULL DEFAULT 0,
  steps            bigint NOT NULL DEFAULT 0,
  seconds          bigint NOT NULL DEFAULT 0,
  calls            bigint NOT NULL DEFAULT 0,
  unknown_calls    bigint NOT NULL DEFAULT 0,  -- of the calls, those that were settled at their reserve
  reserved_money   bigint NOT NULL DEFAULT 0 CHECK (reserved_money >= 0),
  reserved_tokens  bigint NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
  peak_money       bigint NOT NULL DEFAULT 0,  -- most that was ever spent and reserved together
  PRIMARY KEY (org, agent_id, period, since)
) WITH (fillfactor = 50);                -- a few rows that are updated all day: keep the updates on their page

CREATE TABLE budget_runs (               -- a run that has reserved or was counted before its end
  org              text NOT NULL,
  run_id           text NOT NULL,
  agent_id         text NOT NULL,
  segment          integer NOT NULL,     -- of the attempt that reserved last; older ones are fenced out
  attempt          integer NOT NULL,
  money            bigint NOT NULL,      -- of the run's journal, as far as it is counted in its periods
  tokens           bigint NOT NULL,
  steps            bigint NOT NULL,
  seconds          bigint NOT NULL,
  calls            bigint NOT NULL,
  unknown_calls    bigint NOT NULL,
  lost_money       bigint NOT NULL,      -- of calls that the journal has no answer of, counted at their reserve
  lost_tokens      bigint NOT NULL,
  step             text,                 -- the model call that is reserved now, if one is
  reserved_on      date,
  reserved_money   bigint NOT NULL,
  reserved_tokens  bigint NOT NULL,
  is_over          boolean NOT NULL DEFAULT false,
  PRIMARY KEY (org, run_id)
) WITH (fillfactor = 70);

CREATE TABLE budget_alerts (             -- what was told, so that it is told once for a period and cap
  org       text NOT NULL,
  agent_id  text NOT NULL,
  period    text NOT NULL,
  since     date NOT NULL,
  resource  text NOT NULL,
  most      bigint NOT NULL,
  percent   smallint NOT NULL CHECK (percent IN (75, 100)),
  told_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, agent_id, period, since, resource, most, percent)
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['budgets', 'model_prices', 'budget_periods', 'budget_runs', 'budget_alerts'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON budgets, model_prices TO agentos_app;
GRANT SELECT, INSERT, UPDATE ON budget_periods, budget_runs TO agentos_app;
GRANT SELECT, INSERT ON budget_alerts TO agentos_app;

------------------------------------------------------------------------------------------------------------------------

-- What an organization has set: the epoch it was read under, whom caps are about ('': the organization), and its prices.
CREATE FUNCTION budget_standing(p_org text, OUT epoch bigint, OUT capped text[], OUT prices jsonb)
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  -- The epoch first: what is set between the reads is read again, never missed.
  epoch := coalesce((SELECT e.value FROM epochs e WHERE e.org = p_org AND e.scope = 'organization'), 0);
  capped := coalesce((SELECT array_agg(DISTINCT b.agent_id) FROM budgets b WHERE b.org = p_org), '{}');
  prices := coalesce((SELECT jsonb_agg(to_jsonb(p)) FROM model_prices p WHERE p.org = p_org), '[]');
END $$;

-- Lock the four periods of an agent's day, in the one order in which everybody locks them.
CREATE FUNCTION budget_lock(p_org text, p_agent text, p_on date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  p_month date := date_trunc('month', p_on)::date;
BEGIN
  INSERT INTO budget_periods (org, agent_id, period, since)
  VALUES (p_org, '', 'day', p_on), (p_org, '', 'month', p_month),
         (p_org, p_agent, 'day', p_on), (p_org, p_agent, 'month', p_month)
  ON CONFLICT DO NOTHING;
  PERFORM FROM budget_periods p
  WHERE p.org = p_org AND (p.agent_id, p.period, p.since) IN
    (('', 'day', p_on), ('', 'month', p_month), (p_agent, 'day', p_on), (p_agent, 'month', p_month))
  ORDER BY p.agent_id, p.period FOR UPDATE;
END $$;

-- Add to the four periods of an agent's day, which are locked.
CREATE FUNCTION budget_add(
  p_org text, p_agent text, p_on date, p_money bigint, p_tokens bigint, p_steps bigint, p_seconds bigint,
  p_calls bigint, p_unknown bigint, p_reserved_money bigint, p_reserved_tokens bigint
) RETURNS void LANGUAGE sql AS $$
  UPDATE budget_periods p SET
    money = p.money + p_money, tokens = p.tokens + p_tokens, steps = p.steps + p_steps,
    seconds = p.seconds + p_seconds, calls = p.calls + p_calls, unknown_calls = p.unknown_calls + p_unknown,
    reserved_money = p.reserved_money + p_reserved_money, reserved_tokens = p.reserved_tokens + p_reserved_tokens,
    peak_money = greatest(p.peak_money, p.money + p_money + p.reserved_money + p_reserved_money)
  WHERE p.org = p_org AND p.agent_id IN ('', p_agent)
    AND (p.period = 'day' AND p.since = p_on OR p.period = 'month' AND p.since = date_trunc('month', p_on)::date)
$$;

-- Tell, once for each cap and period, that 75 or 100 % are spent.
CREATE FUNCTION budget_tell(p_org text, p_agent text, p_on date) RETURNS void LANGUAGE sql AS $$
  WITH reached AS (
    SELECT p.agent_id, p.period, p.since, r.resource, r.most, t.percent, r.used
    FROM budgets b
    JOIN budget_periods p ON p.org = b.org AND p.agent_id = b.agent_id AND p.period = b.period
      AND p.since = CASE b.period WHEN 'day' THEN p_on ELSE date_trunc('month', p_on)::date END
    CROSS JOIN LATERAL (VALUES ('money', b.money, p.money), ('tokens', b.tokens, p.tokens),
                               ('steps', b.steps, p.steps), ('seconds', b.seconds, p.seconds)) AS r (resource, most, used)
    CROSS JOIN (VALUES (75::smallint), (100::smallint)) AS t (percent)
    WHERE b.org = p_org AND b.agent_id IN ('', p_agent) AND r.most IS NOT NULL AND r.used > 0
      AND r.used * 100 >= r.most * t.percent
  ), told AS (
    INSERT INTO budget_alerts (org, agent_id, period, since, resource, most, percent)
    SELECT p_org, agent_id, period, since, resource, most, percent FROM reached
    ON CONFLICT DO NOTHING
    RETURNING agent_id, period, since, resource, most, percent
  )
  INSERT INTO outbox (org, name, key, body)
  SELECT p_org, 'BudgetReached', k.subject,
         jsonb_build_object('subject', k.subject, 'period', t.period, 'since', t.since, 'resource', t.resource,
                            'percent', t.percent, 'most', t.most, 'used', r.used)
  FROM told t JOIN reached r USING (agent_id, period, since, resource, most, percent)
  CROSS JOIN LATERAL (SELECT CASE t.agent_id WHEN '' THEN 'organization' ELSE 'agent:' || t.agent_id END) AS k (subject)
$$;

-- Count what a run's journal says by now, and close what is reserved for it. Counting again counts nothing twice, since
-- the bill holds totals of the whole journal. The bill's fields: agent; segment and attempt, whose bill it is; money,
-- tokens, steps, seconds, calls and unknown, the totals; unanswered, the step that the journal has no answer of;
-- released, whether that step's call surely costs nothing, else it is spent at its reserve and counted as unknown;
-- final, at the run's end. True: more was billed than was reserved. What was reserved on a day is spent on that day.
CREATE FUNCTION budget_settle(p_org text, p_run text, p_bill jsonb, p_at timestamptz) RETURNS boolean
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
    held := ROW(p_org, p_run, agent, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, 0, false);
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
      step = NULL, reserved_on = NULL, reserved_money = 0, reserved_tokens = 0, is_over = r.is_over OR is_final
    WHERE r.org = p_org AND r.run_id = p_run;
  ELSIF NOT is_final THEN  -- nobody counts a run again that is over
    INSERT INTO budget_runs VALUES (p_org, p_run, agent, 0, 0, said.money, said.tokens, said.steps, said.seconds,
                                    said.calls, said.unknown_calls, 0, 0, NULL, NULL, 0, 0, false)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the budget of run % moved', p_run USING ERRCODE = '40001';
    END IF;
  END IF;
  IF overshot THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'BudgetOvershot', p_run, jsonb_build_object(
      'run_id', p_run, 'step', held.step, 'reserved_money', held.reserved_money, 'billed_money', said.money,
      'reserved_tokens', held.reserved_tokens, 'billed_tokens', said.tokens));
  END IF;
  IF EXISTS (SELECT FROM budgets b WHERE b.org = p_org) THEN
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
CREATE FUNCTION budget_reserve(
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
    END IF;
    RETURN;
  END IF;
  PERFORM budget_add(p_org, agent, today, 0, 0, 0, 0, 0, 0, p_money, p_tokens);
  UPDATE budget_runs r SET segment = p_segment, attempt = p_attempt, step = p_step, reserved_on = today,
    reserved_money = p_money, reserved_tokens = p_tokens
  WHERE r.org = p_org AND r.run_id = p_run;
  verdict := 'ok';
END $$;

REVOKE EXECUTE ON FUNCTION budget_standing, budget_lock, budget_add, budget_tell, budget_settle, budget_reserve FROM PUBLIC;
GRANT EXECUTE ON FUNCTION budget_standing, budget_lock, budget_add, budget_tell, budget_settle, budget_reserve TO agentos_app;
