-- Every table of an organization carries it as ``org`` and forces row-level security; see the end of this file.

CREATE TABLE organizations (
  org         text PRIMARY KEY,
  name        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people (
  org         text NOT NULL REFERENCES organizations,
  id          text NOT NULL,
  handle      text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, id),
  UNIQUE (org, handle)
);

CREATE TABLE keys (
  org         text NOT NULL,
  id          text NOT NULL,
  person_id   text NOT NULL,
  hash        bytea NOT NULL UNIQUE,     -- SHA-256 of a random 256-bit secret, which needs no slow hash
  created_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at  timestamptz,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, person_id) REFERENCES people (org, id)
);

CREATE TABLE requests (
  org          text NOT NULL,
  key          text NOT NULL,            -- the caller's Idempotency-Key
  body_digest  text NOT NULL,
  answer       jsonb NOT NULL,
  made_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, key)
);
CREATE INDEX requests_by_age ON requests (made_at);

CREATE TABLE agents (
  org         text NOT NULL REFERENCES organizations,
  id          text NOT NULL,
  category    text NOT NULL,
  owner       text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, id)
);

CREATE TABLE versions (
  org         text NOT NULL,
  agent_id    text NOT NULL,
  number      integer NOT NULL,          -- 1, 2, 3 … in the order of first appearance
  hash        text NOT NULL,             -- SHA-256 of the canonical definition: the version's name
  definition  jsonb NOT NULL,
  created_by  text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, agent_id, hash),
  UNIQUE (org, agent_id, number),
  FOREIGN KEY (org, agent_id) REFERENCES agents (org, id)
);

CREATE TABLE pins (                      -- one digest for a skill's name and version: it never changes unnoticed
  org        text NOT NULL,
  skill      text NOT NULL,
  version    text NOT NULL,
  digest     text NOT NULL,
  agent_id   text NOT NULL,              -- the agent that it was pinned for first
  pinned_at  timestamptz NOT NULL,
  PRIMARY KEY (org, skill, version)
);

CREATE TABLE deployments (
  org          text NOT NULL,
  id           text NOT NULL,
  agent_id     text NOT NULL,
  environment  text NOT NULL,
  tier         smallint NOT NULL CHECK (tier BETWEEN 0 AND 4),
  state        text NOT NULL CHECK (state IN ('active', 'paused', 'retired')),
  revision     integer NOT NULL,         -- the one that serves; 0 before the first promotion
  etag         integer NOT NULL DEFAULT 1,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, agent_id) REFERENCES agents (org, id)
);
CREATE UNIQUE INDEX deployments_live ON deployments (org, agent_id, environment) WHERE state <> 'retired';

CREATE TABLE revisions (
  org            text NOT NULL,
  deployment_id  text NOT NULL,
  number         integer NOT NULL,
  agent_id       text NOT NULL,
  version        text NOT NULL,
  status         text NOT NULL CHECK (status IN ('draft', 'canary', 'active', 'superseded', 'rolled_back', 'retired')),
  reason         text NOT NULL,
  created_by     text NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  served_from    timestamptz,
  served_until   timestamptz,
  PRIMARY KEY (org, deployment_id, number),
  FOREIGN KEY (org, deployment_id) REFERENCES deployments (org, id),
  FOREIGN KEY (org, agent_id, version) REFERENCES versions (org, agent_id, hash)
);

CREATE TABLE epochs (
  org    text NOT NULL,                  -- '*': of every organization, readable by all, written by system functions
  scope  text NOT NULL,
  value  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (org, scope)
);
INSERT INTO epochs (org, scope) VALUES ('*', 'global');

CREATE TABLE runs (
  org            text NOT NULL REFERENCES organizations,
  id             text NOT NULL,
  deployment_id  text NOT NULL,
  agent_id       text NOT NULL,
  category       text NOT NULL,
  revision       integer NOT NULL,
  version        text NOT NULL,
  status         text NOT NULL CHECK (status IN
                   ('accepted', 'running', 'waiting_approval', 'paused', 'completed', 'failed', 'cancelled', 'blocked')),
  waiting        jsonb,                  -- why it is not moving: reason, what it waits for, until when
  ordered        text NOT NULL DEFAULT '' CHECK (ordered IN ('', 'pause', 'cancel')),
  orders         integer NOT NULL DEFAULT 0,
  segment        integer NOT NULL DEFAULT 0,   -- the fencing token is (segment, attempt); it only rises
  attempt        integer NOT NULL DEFAULT 0,
  format         smallint NOT NULL,            -- of the loop that journals it
  inline         boolean NOT NULL,             -- starts on the low-latency path
  draft_id       text,                         -- a submitted draft: the run makes this one call
  requested_by   text NOT NULL,
  request_id     text NOT NULL,
  input          bytea NOT NULL,
  output         bytea,
  problem        jsonb,
  accepted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at     timestamptz,
  ended_at       timestamptz,
  deadline       timestamptz NOT NULL,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, deployment_id) REFERENCES deployments (org, id),
  FOREIGN KEY (org, agent_id, version) REFERENCES versions (org, agent_id, hash)
) WITH (fillfactor = 70);                -- a run's row is updated a few times: keep the updates on its page
CREATE INDEX runs_by_deployment ON runs (org, deployment_id, id);
CREATE INDEX runs_unfinished ON runs (id) WHERE status IN ('accepted', 'running', 'waiting_approval', 'paused');

-- No foreign key to runs: every append has locked its run's row already, and the key would lock it again for each row.
CREATE TABLE journal (
  org              text NOT NULL,
  run_id           text NOT NULL,
  seq              integer NOT NULL,
  key              text NOT NULL,        -- the step: steps match by key, never by position
  phase            text NOT NULL CHECK (phase IN ('intent', 'result')),
  kind             text NOT NULL CHECK (kind IN ('model', 'skill', 'ask', 'draft', 'note')),
  name             text NOT NULL,
  status           text NOT NULL,
  effect           smallint,             -- effect class of a skill call
  idempotency_key  text,
  send_before      timestamptz,
  segment          integer NOT NULL,
  attempt          integer NOT NULL,
  at               timestamptz NOT NULL DEFAULT clock_timestamp(),
  meta             jsonb NOT NULL,       -- decision, digests, usage, attempts: what readers search, never content
  content          bytea,                -- the payload as JSON; NULL when it is in blobs or was erased
  blob             text,
  PRIMARY KEY (org, run_id, seq),
  UNIQUE (org, run_id, key, phase)
);

CREATE TABLE blobs (
  org      text NOT NULL,
  digest   text NOT NULL,
  content  bytea NOT NULL,
  PRIMARY KEY (org, digest)
);

CREATE TABLE approvals (
  org               text NOT NULL,
  id                text NOT NULL,
  run_id            text NOT NULL,
  step              text NOT NULL,
  deployment_id     text NOT NULL,
  requested_by      text NOT NULL,       -- who asked for the run: may not approve its effects
  skill             text NOT NULL,
  skill_version     text NOT NULL,
  effect            smallint NOT NULL,
  arguments         bytea NOT NULL,      -- canonical: the very bytes that execute
  arguments_digest  text NOT NULL,
  needed            smallint NOT NULL CHECK (needed IN (1, 2)),
  level             smallint NOT NULL DEFAULT 0,
  status            text NOT NULL CHECK (status IN ('pending', 'approved', 'denied', 'expired')),
  asked_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at        timestamptz NOT NULL,
  decided_at        timestamptz,
  consumed_at       timestamptz,
  PRIMARY KEY (org, id),
  UNIQUE (org, run_id, step),
  FOREIGN KEY (org, run_id) REFERENCES runs (org, id)
);
CREATE INDEX approvals_pending ON approvals (org, id) WHERE status = 'pending';

CREATE TABLE approval_answers (
  org          text NOT NULL,
  approval_id  text NOT NULL,
  person_id    text NOT NULL,
  approved     boolean NOT NULL,
  note         text NOT NULL,
  at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, approval_id, person_id),
  FOREIGN KEY (org, approval_id) REFERENCES approvals (org, id)
);

CREATE TABLE drafts (
  org               text NOT NULL,
  id                text NOT NULL,
  run_id            text NOT NULL,
  step              text NOT NULL,
  deployment_id     text NOT NULL,
  skill             text NOT NULL,
  skill_version     text NOT NULL,
  effect            smallint NOT NULL,
  arguments         bytea NOT NULL,
  arguments_digest  text NOT NULL,
  status            text NOT NULL CHECK (status IN ('open', 'submitted', 'discarded')),
  submitted_run     text,
  drafted_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, id),
  UNIQUE (org, run_id, step),
  FOREIGN KEY (org, run_id) REFERENCES runs (org, id)
);

CREATE TABLE outbox (
  txid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  seq   bigint GENERATED ALWAYS AS IDENTITY,
  org   text NOT NULL,
  name  text NOT NULL,
  key   text NOT NULL,
  body  jsonb NOT NULL,
  at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (txid, seq)
);

CREATE TABLE outbox_cursors (
  consumer  text PRIMARY KEY,
  txid      xid8 NOT NULL,
  seq       bigint NOT NULL,
  moved_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE outbox_failures (
  consumer   text NOT NULL,
  txid       xid8 NOT NULL,
  seq        bigint NOT NULL,
  error      text NOT NULL,
  failed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer, txid, seq)
);

------------------------------------------------------------------------------------------------------------------------
-- The journal's hot path: one statement, one round trip, one commit.

-- Append rows to a run's journal, or refuse with a reason and write nothing:
--   'fenced'   another attempt owns the run now
--   'ordered'  the rows hold an intent and the run was ordered to pause or cancel
--   'epochs'   the rows hold an intent and a scope's epoch is not what the decision was made under
-- 'ok' means committed. The run's standing order comes back with every answer. The share locks make it exact: a takeover,
-- an order or a stop waits for an append that is under way, and no later append passes it.
CREATE FUNCTION journal_append(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_first integer,
  p_scopes text[], p_epochs bigint[],
  p_keys text[], p_phases text[], p_kinds text[], p_names text[], p_statuses text[], p_effects smallint[],
  p_idempotency text[], p_windows double precision[], p_metas jsonb[], p_contents bytea[], p_blobs text[],
  OUT verdict text, OUT standing text
) LANGUAGE plpgsql AS $$
DECLARE
  owner record;
  held integer;
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  SELECT r.segment, r.attempt, r.ordered INTO owner FROM runs r WHERE r.org = p_org AND r.id = p_run FOR SHARE;
  standing := coalesce(owner.ordered, '');
  IF owner.segment IS DISTINCT FROM p_segment OR owner.attempt IS DISTINCT FROM p_attempt THEN
    verdict := 'fenced';
    RETURN;
  END IF;
  IF cardinality(p_scopes) > 0 THEN
    IF standing <> '' THEN
      verdict := 'ordered';
      RETURN;
    END IF;
    SELECT count(*) INTO held FROM (
      SELECT 1 FROM epochs e JOIN unnest(p_scopes, p_epochs) AS seen (scope, value)
        ON e.scope = seen.scope AND e.value = seen.value AND e.org IN (p_org, '*')
      FOR SHARE OF e
    ) AS same;
    IF held <> cardinality(p_scopes) THEN
      verdict := 'epochs';
      RETURN;
    END IF;
  END IF;
  INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, effect, idempotency_key, send_before,
                       segment, attempt, meta, content, blob)
  SELECT p_org, p_run, p_first + i - 1, p_keys[i], p_phases[i], p_kinds[i], p_names[i], p_statuses[i], p_effects[i],
         p_idempotency[i], clock_timestamp() + make_interval(secs => p_windows[i]),
         p_segment, p_attempt, p_metas[i], p_contents[i], p_blobs[i]
  FROM generate_series(1, cardinality(p_keys)) AS i;
  verdict := 'ok';
END $$;

------------------------------------------------------------------------------------------------------------------------
-- Isolation: row-level security forced on every table of an organization. Unset means no rows.

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['organizations', 'people', 'keys', 'requests', 'agents', 'versions', 'pins', 'deployments',
                             'revisions', 'runs', 'journal', 'blobs', 'approvals', 'approval_answers', 'drafts',
                             'outbox', 'epochs'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
CREATE POLICY everyones ON epochs FOR SELECT TO agentos_app USING (org = '*');
-- FOR SHARE asks for the policy of UPDATE as well; the grant below still forbids the update itself.
CREATE POLICY everyones_lock ON epochs FOR UPDATE TO agentos_app USING (org = '*') WITH CHECK (false);

GRANT USAGE ON SCHEMA agentos TO agentos_app, agentos_system;
GRANT SELECT, INSERT ON organizations, people, requests, versions, pins, journal, blobs, approval_answers, outbox
  TO agentos_app;
GRANT SELECT, INSERT, UPDATE ON keys, agents, deployments, revisions, runs, approvals, drafts, epochs TO agentos_app;
GRANT DELETE ON requests TO agentos_app;  -- an idempotency key's day is over
GRANT EXECUTE ON FUNCTION journal_append TO agentos_app;

------------------------------------------------------------------------------------------------------------------------
-- What the system role may do: these functions and nothing else. They run as the owner, whom policies below let see
-- just the tables that they read.

CREATE POLICY system ON keys TO agentos_owner USING (true);
CREATE POLICY system ON people FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON organizations TO agentos_owner USING (true) WITH CHECK (true);
CREATE POLICY system ON outbox TO agentos_owner USING (true);
CREATE POLICY system ON runs FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON approvals FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON epochs TO agentos_owner USING (org = '*') WITH CHECK (org = '*');

-- Who holds the key with this hash: an organization and a person, or no row.
CREATE FUNCTION key_holder(p_hash bytea) RETURNS TABLE (org text, key_id text, person_id text, handle text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT k.org, k.id, k.person_id, p.handle FROM keys k JOIN people p ON p.org = k.org AND p.id = k.person_id
  WHERE k.hash = p_hash AND k.revoked_at IS NULL
$$;

-- Found an organization; true when it is new.
CREATE FUNCTION organization_found(p_org text, p_name text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH made AS (INSERT INTO organizations (org, name) VALUES (p_org, p_name) ON CONFLICT DO NOTHING RETURNING 1)
  SELECT EXISTS (SELECT FROM made)
$$;

-- Take the consumer's lock for this transaction; false when another process has it.
CREATE FUNCTION outbox_lock(p_consumer text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  SELECT pg_try_advisory_xact_lock(hashtextextended('outbox ' || p_consumer, 0))
$$;

-- The consumer's next facts in order, stopping before the oldest transaction that is still open.
CREATE FUNCTION outbox_read(p_consumer text, p_names text[], p_most integer)
RETURNS TABLE (txid text, seq bigint, org text, name text, body jsonb, at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT o.txid::text, o.seq, o.org, o.name, o.body, o.at
  FROM outbox o
  WHERE (o.txid, o.seq) > (SELECT c.txid, c.seq FROM outbox_cursors c WHERE c.consumer = p_consumer
                           UNION ALL SELECT '0'::xid8, 0 LIMIT 1)
    AND o.txid < pg_snapshot_xmin(pg_current_snapshot())
    AND o.name = ANY (p_names)
  ORDER BY o.txid, o.seq
  LIMIT p_most
$$;

-- Remember where the consumer is; a cursor never goes back.
CREATE FUNCTION outbox_move(p_consumer text, p_txid text, p_seq bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  INSERT INTO outbox_cursors AS c (consumer, txid, seq) VALUES (p_consumer, p_txid::xid8, p_seq)
  ON CONFLICT (consumer) DO UPDATE SET txid = excluded.txid, seq = excluded.seq, moved_at = clock_timestamp()
  WHERE (c.txid, c.seq) < (excluded.txid, excluded.seq)
$$;

-- Set a fact aside that the consumer cannot handle.
CREATE FUNCTION outbox_fail(p_consumer text, p_txid text, p_seq bigint, p_error text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  INSERT INTO outbox_failures (consumer, txid, seq, error) VALUES (p_consumer, p_txid::xid8, p_seq, p_error)
  ON CONFLICT DO NOTHING
$$;

-- Runs that are not terminal, for the sweeper: page after page by id.
CREATE FUNCTION runs_unfinished(p_after text, p_most integer)
RETURNS TABLE (org text, id text, status text, segment integer, inline boolean, waiting jsonb, seconds_old double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT r.org, r.id, r.status, r.segment, r.inline, r.waiting,
         extract(epoch FROM clock_timestamp() - r.accepted_at)::double precision
  FROM runs r
  WHERE r.id > p_after AND r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
  ORDER BY r.id
  LIMIT p_most
$$;

-- Stored state for the gauges: one row per organization, deployment and measure.
CREATE FUNCTION gauges() RETURNS TABLE (measure text, org text, deployment text, agent_id text, state text, value bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT 'approvals_pending', a.org, a.deployment_id, r.agent_id, a.status, count(*)
  FROM approvals a JOIN runs r ON r.org = a.org AND r.id = a.run_id
  WHERE a.status = 'pending' GROUP BY a.org, a.deployment_id, r.agent_id, a.status
  UNION ALL
  SELECT 'runs', r.org, r.deployment_id, r.agent_id, r.status, count(*)
  FROM runs r WHERE r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
  GROUP BY r.org, r.deployment_id, r.agent_id, r.status
$$;

-- How far behind each consumer is.
CREATE FUNCTION outbox_lag() RETURNS TABLE (consumer text, facts bigint, failures bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT c.consumer,
         (SELECT count(*) FROM outbox o WHERE (o.txid, o.seq) > (c.txid, c.seq)),
         (SELECT count(*) FROM outbox_failures f WHERE f.consumer = c.consumer)
  FROM outbox_cursors c
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA agentos FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_append TO agentos_app;
GRANT EXECUTE ON FUNCTION key_holder, organization_found, outbox_lock, outbox_read, outbox_move, outbox_fail,
  runs_unfinished, gauges, outbox_lag TO agentos_system;
GRANT SELECT ON migrations TO agentos_app, agentos_system;
