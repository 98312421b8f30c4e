-- Data sets under their names, each content once; the newest content of a name is the one that was added last.
CREATE TABLE eval_datasets (
  org        text NOT NULL REFERENCES organizations,
  name       text NOT NULL,
  hash       text NOT NULL,               -- sha256:… of the content
  content    bytea NOT NULL,
  cases      integer NOT NULL CHECK (cases > 0),
  broken     jsonb NOT NULL,              -- [{line, reason}]
  added_by   text NOT NULL,
  added_at   timestamptz NOT NULL,
  newest_at  timestamptz NOT NULL,        -- when this very content was added last
  PRIMARY KEY (org, name, hash)
);

CREATE TABLE evals (
  org           text NOT NULL REFERENCES organizations,
  id            text NOT NULL,
  dataset       text NOT NULL,
  dataset_hash  text NOT NULL,
  agent_id      text NOT NULL,
  version       text NOT NULL,
  against       text NOT NULL,            -- '': one version is examined
  repeats       integer NOT NULL CHECK (repeats > 0),
  concurrency   integer NOT NULL CHECK (concurrency > 0),
  status        text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
  total         integer NOT NULL,
  attempt       integer NOT NULL DEFAULT 0,  -- who claimed it last may write; it only rises
  resumes       integer NOT NULL DEFAULT 0,  -- how often it went on after it had failed: each has a workflow of its own
  problem       jsonb,
  report        jsonb,
  requested_by  text NOT NULL,
  request_id    text NOT NULL,
  started_at    timestamptz NOT NULL,
  resumed_at    timestamptz NOT NULL,
  ended_at      timestamptz,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, dataset, dataset_hash) REFERENCES eval_datasets
);
CREATE INDEX evals_latest ON evals (org, agent_id, dataset, version, ended_at DESC) WHERE status = 'completed';
CREATE INDEX evals_running ON evals (org) WHERE status = 'running';

CREATE TABLE eval_answers (               -- what models answered that cost something, until the eval is over
  org      text NOT NULL,
  eval_id  text NOT NULL,
  talk     text NOT NULL,                 -- the task, or its judge
  key      text NOT NULL,
  name     text NOT NULL,
  meta     jsonb NOT NULL,
  content  bytea NOT NULL,
  PRIMARY KEY (org, eval_id, talk, key),
  FOREIGN KEY (org, eval_id) REFERENCES evals
);

CREATE TABLE eval_outcomes (
  org      text NOT NULL,
  eval_id  text NOT NULL,
  side     text NOT NULL CHECK (side IN ('candidate', 'against')),
  number   integer NOT NULL,              -- of the case, from 0
  repeat   integer NOT NULL,
  status   text NOT NULL,
  passed   boolean,                       -- NULL: nothing can be said
  body     jsonb NOT NULL,                -- case, code, why, scores, calls, tokens, micros, asked, seconds
  output   bytea,
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, eval_id, number, repeat, side),
  FOREIGN KEY (org, eval_id) REFERENCES evals
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['eval_datasets', 'evals', 'eval_answers', 'eval_outcomes'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON eval_datasets, evals TO agentos_app;
GRANT SELECT, INSERT ON eval_outcomes TO agentos_app;
GRANT SELECT, INSERT, DELETE ON eval_answers TO agentos_app;

-- Whether this attempt may still write; it stays so until the transaction ends.
CREATE FUNCTION eval_is_held(p_org text, p_eval text, p_attempt integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  PERFORM FROM evals e WHERE e.org = p_org AND e.id = p_eval AND e.status = 'running' AND e.attempt = p_attempt
  FOR SHARE;
  RETURN FOUND;
END $$;

-- Keep answers of a talk, settle what the last of them cost, and tell that they were asked for, in one commit. False, and no answer kept: the eval is
-- over or another attempt has it; what was paid is counted all the same.
CREATE FUNCTION eval_note(
  p_org text, p_eval text, p_attempt integer, p_talk text, p_keys text[], p_names text[], p_metas jsonb[],
  p_contents bytea[], p_bill jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  is_held boolean := eval_is_held(p_org, p_eval, p_attempt);
BEGIN
  IF is_held THEN
    INSERT INTO eval_answers (org, eval_id, talk, key, name, meta, content)
    SELECT p_org, p_eval, p_talk, n.key, n.name, n.meta, n.content
    FROM unnest(p_keys, p_names, p_metas, p_contents) AS n (key, name, meta, content)
    ON CONFLICT DO NOTHING;
  END IF;
  PERFORM budget_settle(p_org, p_eval || '.' || p_talk, p_bill, NULL);
  INSERT INTO outbox (org, name, key, body)
  SELECT p_org, 'EvalAsked', a.ask, jsonb_build_object(
    'ask_id', a.ask, 'eval_id', p_eval, 'agent_id', e.agent_id,
    'version', CASE WHEN starts_with(p_talk, 'against.') THEN e.against ELSE e.version END,
    'answers', (SELECT jsonb_agg(jsonb_build_object(
        'model', n.name, 'provider', n.meta->'provider', 'usage', n.meta->'usage', 'cost', n.meta->'cost',
        'seconds', n.meta->'seconds', 'attempts', n.meta->'attempts')) FROM unnest(p_names, p_metas) AS n (name, meta)))
  FROM (SELECT p_eval || '.' || p_talk || '.' || p_keys[1] || '~' || p_attempt AS ask) AS a, evals e
  WHERE e.org = p_org AND e.id = p_eval;
  RETURN is_held;
END $$;

-- Keep what came of a task and count what its talks cost, in one commit. False: as in eval_note.
CREATE FUNCTION eval_finish(
  p_org text, p_eval text, p_attempt integer, p_side text, p_number integer, p_repeat integer, p_status text,
  p_passed boolean, p_body jsonb, p_output bytea, p_talks text[], p_bills jsonb[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  is_held boolean := eval_is_held(p_org, p_eval, p_attempt);
BEGIN
  IF is_held THEN
    INSERT INTO eval_outcomes (org, eval_id, side, number, repeat, status, passed, body, output)
    VALUES (p_org, p_eval, p_side, p_number, p_repeat, p_status, p_passed, p_body, p_output)
    ON CONFLICT DO NOTHING;
  END IF;
  PERFORM budget_settle(p_org, p_eval || '.' || b.talk, b.bill, NULL) FROM unnest(p_talks, p_bills) AS b (talk, bill);
  RETURN is_held;
END $$;

-- Close what is still reserved for talks of an eval whose process was lost: it counts as spent. p_final: the eval does not
-- go on.
CREATE FUNCTION eval_close(p_org text, p_eval text, p_final boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  one budget_runs;
BEGIN
  FOR one IN
    SELECT * FROM budget_runs r
    WHERE r.org = p_org AND r.step IS NOT NULL AND starts_with(r.run_id, p_eval || '.') ORDER BY r.run_id
  LOOP
    PERFORM budget_settle(p_org, one.run_id, jsonb_build_object(
      'agent', one.agent_id, 'segment', one.segment, 'attempt', one.attempt, 'money', one.money, 'tokens', one.tokens,
      'steps', one.steps, 'seconds', one.seconds, 'calls', one.calls, 'unknown', one.unknown_calls,
      'unanswered', one.step, 'released', false, 'final', p_final), NULL);
  END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION eval_is_held, eval_note, eval_finish, eval_close FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eval_is_held, eval_note, eval_finish, eval_close TO agentos_app;

-- It begins with everything that the outbox holds, which forgets nothing that it has not passed.
INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('evals', '0', 0) ON CONFLICT DO NOTHING;
