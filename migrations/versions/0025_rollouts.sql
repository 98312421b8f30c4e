-- A canary serves a share of a deployment's runs beside the revision that serves.
ALTER TABLE deployments
  ADD COLUMN canary integer,           -- the number of its revision
  ADD COLUMN canary_percent smallint CHECK (canary_percent BETWEEN 1 AND 99),
  ADD CHECK ((canary IS NULL) = (canary_percent IS NULL));
ALTER TABLE deployments ADD FOREIGN KEY (org, id, canary) REFERENCES revisions (org, deployment_id, number);

-- What each canary was begun with and how it ended. The share in force is the deployment's.
CREATE TABLE canaries (
  org            text NOT NULL REFERENCES organizations,
  deployment_id  text NOT NULL,
  revision       integer NOT NULL,
  version        text NOT NULL,
  beside         text NOT NULL,        -- the version that served then, which it is compared with
  reason         text NOT NULL,
  overridden     jsonb NOT NULL,       -- gates that had failed when it was begun all the same
  started_by     text NOT NULL,
  started_at     timestamptz NOT NULL,
  outcome        text NOT NULL CHECK (outcome IN ('open', 'active', 'superseded', 'rolled_back', 'retired')),
  ended_at       timestamptz,
  breaches       jsonb NOT NULL DEFAULT '[]',   -- why it was rolled back by itself, with figures
  PRIMARY KEY (org, deployment_id, revision),
  FOREIGN KEY (org, deployment_id, revision) REFERENCES revisions (org, deployment_id, number),
  CHECK ((outcome = 'open') = (ended_at IS NULL))
);
CREATE INDEX canaries_open ON canaries (org, deployment_id) WHERE outcome = 'open';

-- Each rollback with the checks that tell whether it helped.
CREATE TABLE rollbacks (
  org            text NOT NULL REFERENCES organizations,
  deployment_id  text NOT NULL,
  number         integer NOT NULL,     -- of the revision that serves since
  kind           text NOT NULL DEFAULT 'deployment' CHECK (kind IN ('deployment')),
  version        text NOT NULL,
  rolled_back    text NOT NULL,
  criterion      text NOT NULL,        -- for which of the runbook's reasons; empty: none was named
  reason         text NOT NULL,
  ordered_by     text NOT NULL,
  at             timestamptz NOT NULL,
  closes_at      timestamptz NOT NULL,
  outcome        text NOT NULL CHECK (outcome IN ('waiting', 'passed', 'failed', 'unknown')),
  checks         jsonb NOT NULL DEFAULT '[]',   -- as they stood when they were last looked at
  validated_at   timestamptz,
  PRIMARY KEY (org, deployment_id, number),
  FOREIGN KEY (org, deployment_id, number) REFERENCES revisions (org, deployment_id, number),
  CHECK ((outcome = 'waiting') = (validated_at IS NULL))
);
CREATE INDEX rollbacks_waiting ON rollbacks (org, deployment_id) WHERE outcome = 'waiting';

-- A version that is shown a share of the inputs of runs that are over, without effects.
CREATE TABLE shadows (
  org            text NOT NULL REFERENCES organizations,
  deployment_id  text NOT NULL,
  version        text NOT NULL,
  agent_id       text NOT NULL,
  percent        smallint NOT NULL CHECK (percent BETWEEN 1 AND 100),
  live           boolean NOT NULL,     -- live models are asked, at the organization's cost
  started_by     text NOT NULL,
  started_at     timestamptz NOT NULL,
  ended_at       timestamptz,
  PRIMARY KEY (org, deployment_id),
  FOREIGN KEY (org, deployment_id) REFERENCES deployments (org, id),
  FOREIGN KEY (org, agent_id, version) REFERENCES versions (org, agent_id, hash)
);

-- What each run would have come to. Statuses, codes and numbers, never content.
CREATE TABLE shadow_runs (
  org            text NOT NULL REFERENCES organizations,
  deployment_id  text NOT NULL,
  version        text NOT NULL,
  run_id         text NOT NULL,
  recorded       text NOT NULL,        -- the status in which the run ended
  found          text NOT NULL,        -- the one in which it would have; 'unknown' where nobody can tell
  code           text NOT NULL,        -- the problem that it would have ended with
  changed        boolean,              -- NULL: unknown
  micros_more    bigint,
  left_because   text NOT NULL,
  at             timestamptz NOT NULL,
  PRIMARY KEY (org, deployment_id, version, run_id)
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['canaries', 'rollbacks', 'shadows', 'shadow_runs'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
CREATE POLICY system ON canaries FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON rollbacks FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON deployments FOR SELECT TO agentos_owner USING (true);
GRANT SELECT, INSERT, UPDATE ON canaries, rollbacks, shadows, shadow_runs TO agentos_app;

-- Deployments with something to watch: a canary that is open, or a rollback whose checks are.
CREATE FUNCTION rollouts_watched(p_most integer) RETURNS TABLE (org text, deployment_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT c.org, c.deployment_id FROM canaries c WHERE c.outcome = 'open'
  UNION
  SELECT b.org, b.deployment_id FROM rollbacks b WHERE b.outcome = 'waiting'
  LIMIT p_most
$$;

-- The share of each canary, for gauges.
CREATE FUNCTION canary_shares() RETURNS TABLE (org text, deployment text, agent_id text, percent smallint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT d.org, d.id, d.agent_id, d.canary_percent FROM deployments d WHERE d.canary IS NOT NULL
$$;

REVOKE EXECUTE ON FUNCTION rollouts_watched, canary_shares FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rollouts_watched, canary_shares TO agentos_system;

-- Shadows are shown what runs from now on were given, and not all of the outbox.
INSERT INTO outbox_cursors (consumer, txid, seq)
VALUES ('shadows', pg_snapshot_xmin(pg_current_snapshot()), 0);
