-- What was used in a day of UTC, by whose agent and version, and by which model or skill. A row has a model, or a skill,
-- or neither: the runs themselves, and calls of which nobody knows the model any more.
CREATE TABLE usage_days (
  org                 text NOT NULL REFERENCES organizations,
  day                 date NOT NULL,
  source              text NOT NULL CHECK (source IN ('run', 'ask', 'replay', 'eval')),
  agent_id            text NOT NULL,                          -- '': of no agent, as a direct question
  version             text NOT NULL,
  provider            text NOT NULL,
  model               text NOT NULL,
  skill               text NOT NULL,
  runs                bigint NOT NULL DEFAULT 0,
  run_seconds         double precision NOT NULL DEFAULT 0,
  calls               bigint NOT NULL DEFAULT 0,              -- that a model answered
  fallback_calls      bigint NOT NULL DEFAULT 0,              -- of them, those of another model than was wanted first
  failed_calls        bigint NOT NULL DEFAULT 0,              -- that had no answer; a provider may bill what it began
  lost_calls          bigint NOT NULL DEFAULT 0,              -- whose answer was lost; counted at their reserve
  untold_calls        bigint NOT NULL DEFAULT 0,              -- of the calls, those whose tokens nobody said
  unpriced_calls      bigint NOT NULL DEFAULT 0,              -- of the calls, those whose cost nobody knows
  untimed_calls       bigint NOT NULL DEFAULT 0,              -- of the calls, those that nobody timed
  input_tokens        bigint NOT NULL DEFAULT 0,
  output_tokens       bigint NOT NULL DEFAULT 0,
  cache_read_tokens   bigint,                                 -- NULL: no provider said
  cache_write_tokens  bigint,
  reasoning_tokens    bigint,
  unknown_tokens      bigint NOT NULL DEFAULT 0,              -- what budgets count for untold and lost calls
  money               bigint NOT NULL DEFAULT 0,              -- millionths of a dollar, as far as it is known
  unknown_money       bigint NOT NULL DEFAULT 0,              -- what budgets count for unpriced and lost calls
  model_seconds       double precision NOT NULL DEFAULT 0,
  skill_calls         bigint NOT NULL DEFAULT 0,              -- steps that called a skill, however often
  untimed_skills      bigint NOT NULL DEFAULT 0,
  skill_seconds       double precision NOT NULL DEFAULT 0,
  PRIMARY KEY (org, day, source, agent_id, version, provider, model, skill)
) WITH (fillfactor = 70);                -- today's rows are updated all day: keep the updates on their page

CREATE TABLE usage_counted (             -- each run, question and lost call that is counted: it is counted once
  org         text NOT NULL,
  subject     text NOT NULL,
  counted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, subject)
);

CREATE TABLE usage_marks (               -- how far a day of a budget was used up at a time: what rates are taken from
  org       text NOT NULL,
  agent_id  text NOT NULL,               -- '': the organization as a whole
  since     date NOT NULL,               -- the day
  slot      timestamptz NOT NULL,        -- five minutes: one mark in each, whichever workers look
  at        timestamptz NOT NULL,
  money     bigint NOT NULL,
  tokens    bigint NOT NULL,
  steps     bigint NOT NULL,
  seconds   bigint NOT NULL,
  PRIMARY KEY (org, agent_id, since, slot)
);
CREATE INDEX usage_marks_by_time ON usage_marks (slot);
CREATE INDEX budget_periods_by_day ON budget_periods (since) WHERE period = 'day';

-- What was spent before there were marks is in no rate.
INSERT INTO usage_marks (org, agent_id, since, slot, at, money, tokens, steps, seconds)
SELECT p.org, p.agent_id, p.since, d.began, d.began, p.money, p.tokens, p.steps, p.seconds
FROM budget_periods p CROSS JOIN LATERAL (SELECT p.since::timestamp AT TIME ZONE 'UTC' AS began) AS d
WHERE p.period = 'day' AND p.since >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 1;

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['usage_days', 'usage_counted', 'usage_marks'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
CREATE POLICY system ON usage_marks TO agentos_owner USING (true);
GRANT SELECT, INSERT, UPDATE ON usage_days TO agentos_app;
GRANT SELECT, INSERT ON usage_counted TO agentos_app;
GRANT SELECT ON usage_marks TO agentos_app;

-- Mark how far the days of today and yesterday are used up, where they went on since their last mark, and forget the
-- marks of before p_kept. How many were made.
CREATE FUNCTION usage_mark(p_at timestamptz, p_kept timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  made bigint;
BEGIN
  INSERT INTO usage_marks (org, agent_id, since, slot, at, money, tokens, steps, seconds)
  SELECT p.org, p.agent_id, p.since, date_bin('5 minutes', p_at, 'epoch'), p_at, p.money, p.tokens, p.steps, p.seconds
  FROM budget_periods p
  LEFT JOIN LATERAL (
    SELECT m.money, m.tokens, m.steps, m.seconds FROM usage_marks m
    WHERE m.org = p.org AND m.agent_id = p.agent_id AND m.since = p.since ORDER BY m.slot DESC LIMIT 1
  ) AS last ON true
  WHERE p.period = 'day' AND p.since >= (p_at AT TIME ZONE 'UTC')::date - 1
    AND (last.money, last.tokens, last.steps, last.seconds) IS DISTINCT FROM (p.money, p.tokens, p.steps, p.seconds)
  ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS made = ROW_COUNT;
  DELETE FROM usage_marks WHERE slot < p_kept;
  RETURN made;
END $$;
REVOKE EXECUTE ON FUNCTION usage_mark FROM PUBLIC;
GRANT EXECUTE ON FUNCTION usage_mark TO agentos_system;

-- As before (0016), and tells of each call whose answer was lost what was reserved for it: of_run is what its run has
-- lost by then, so no two facts of a run are alike.
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
  IF is_lost THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'ReserveLost', p_run, jsonb_build_object(
      'run_id', p_run, 'step', held.step, 'agent_id', agent, 'money', held.reserved_money,
      'tokens', held.reserved_tokens, 'of_run', held.lost_tokens + held.reserved_tokens, 'since', spent_on));
  END IF;
  IF is_capped THEN
    PERFORM budget_tell(p_org, agent, spent_on);
  END IF;
  RETURN overshot;
END $$;

-- It begins with everything that the outbox holds, which forgets nothing that it has not passed.
INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('usage', '0', 0) ON CONFLICT DO NOTHING;
