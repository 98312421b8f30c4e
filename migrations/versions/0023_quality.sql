-- One row for each run that ended: what figures are made of. Figures read these rows and never the journal.
CREATE TABLE quality_runs (
  org            text NOT NULL REFERENCES organizations,
  run_id         text NOT NULL,
  deployment_id  text NOT NULL,
  agent_id       text NOT NULL,
  category       text NOT NULL,
  version        text NOT NULL,
  status         text NOT NULL,
  ended_at       timestamptz NOT NULL,
  counted        boolean NOT NULL,        -- not of a draft, and not cancelled: those say nothing of the version
  seconds        double precision NOT NULL,
  score          double precision,        -- 0 to 1; NULL: no part of it is known
  unjudged       double precision,        -- the score without what people said
  confidence     double precision,        -- 0 to 1, of what was known before anybody said how good the run was
  formula        integer NOT NULL,        -- by which score and confidence were computed
  feedback       text,                    -- the last word on the run as a whole; NULL: nobody said anything
  parts          jsonb NOT NULL,          -- part → 0 to 1; a part that is not known is not here
  features       jsonb NOT NULL,          -- what drift compares and is explained by: names, digests, counts
  scored_at      timestamptz NOT NULL,
  PRIMARY KEY (org, run_id),
  FOREIGN KEY (org, run_id) REFERENCES runs (org, id)
);
CREATE INDEX quality_runs_by_version ON quality_runs (org, agent_id, version, ended_at);
CREATE INDEX quality_runs_by_deployment ON quality_runs (org, deployment_id, ended_at);
CREATE INDEX quality_runs_judged ON quality_runs (org, agent_id, ended_at) WHERE feedback IS NOT NULL;
CREATE INDEX quality_runs_by_category ON quality_runs (org, category, ended_at);

-- What people said of runs and of drafts; the last word on each is the one that counts.
CREATE TABLE quality_feedback (
  org       text NOT NULL,
  id        text NOT NULL,
  run_id    text NOT NULL,
  draft_id  text NOT NULL DEFAULT '',    -- of a draft of that run; empty: the run as a whole
  verdict   text NOT NULL CHECK (verdict IN ('accepted', 'edited', 'needs_review', 'rejected')),
  note      text NOT NULL,
  said_by   text NOT NULL,
  said_at   timestamptz NOT NULL,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, run_id) REFERENCES runs (org, id)
);
CREATE INDEX quality_feedback_by_run ON quality_feedback (org, run_id, id DESC);

CREATE TABLE quality_gates (
  org               text NOT NULL REFERENCES organizations,
  id                text NOT NULL,
  scope             text NOT NULL CHECK (scope IN ('organization', 'role', 'deployment')),
  target            text NOT NULL,
  metric            text NOT NULL,
  dataset_hash      text NOT NULL,        -- of an eval: the content that is to be passed; of other metrics empty
  comparator        text NOT NULL CHECK (comparator IN ('>=', '>', '<=', '<', 'no_worse')),
  threshold         double precision NOT NULL,
  lookback_seconds  integer NOT NULL CHECK (lookback_seconds > 0),
  samples           integer NOT NULL CHECK (samples > 0),
  severity          text NOT NULL CHECK (severity IN ('warn', 'blocker')),
  added_by          text NOT NULL,
  added_at          timestamptz NOT NULL,
  PRIMARY KEY (org, id),
  UNIQUE (org, scope, target, metric, comparator, severity),
  CHECK ((scope = 'organization') = (target = ''))
);

CREATE TABLE quality_freezes (
  org          text NOT NULL REFERENCES organizations,
  id           text NOT NULL,
  scope        text NOT NULL CHECK (scope IN ('organization', 'role', 'agent')),
  target       text NOT NULL,
  reason       text NOT NULL,
  frozen_by    text NOT NULL,
  frozen_at    timestamptz NOT NULL,
  lifted_by    text NOT NULL DEFAULT '',
  lifted_at    timestamptz,
  lift_reason  text NOT NULL DEFAULT '',
  PRIMARY KEY (org, id),
  CHECK ((scope = 'organization') = (target = ''))
);
CREATE UNIQUE INDEX quality_freezes_in_force ON quality_freezes (org, scope, target) WHERE lifted_at IS NULL;

CREATE TABLE quality_recommendations (
  org         text NOT NULL REFERENCES organizations,
  id          text NOT NULL,
  kind        text NOT NULL CHECK (kind IN ('prompt', 'evidence_policy', 'tooling', 'eval_drift')),
  scope       text NOT NULL CHECK (scope IN ('organization', 'role', 'deployment')),
  target      text NOT NULL,
  text        text NOT NULL,
  evidence    jsonb NOT NULL,            -- the figures that it was made of
  standing    text NOT NULL CHECK (standing IN ('open', 'accepted', 'dismissed', 'resolved')),
  opened_at   timestamptz NOT NULL,
  changed_by  text NOT NULL DEFAULT '',
  changed_at  timestamptz,
  reason      text NOT NULL DEFAULT '',
  PRIMARY KEY (org, id)
);
CREATE UNIQUE INDEX quality_recommendations_open ON quality_recommendations (org, kind, scope, target)
  WHERE standing IN ('open', 'accepted');

-- The last look at the drift of each scope that has any runs; NULL: unknown.
CREATE TABLE quality_drifts (
  org        text NOT NULL REFERENCES organizations,
  scope      text NOT NULL CHECK (scope IN ('role', 'deployment')),
  target     text NOT NULL,
  score      double precision,
  looked_at  timestamptz NOT NULL,
  PRIMARY KEY (org, scope, target)
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['quality_runs', 'quality_feedback', 'quality_gates', 'quality_freezes',
                             'quality_recommendations', 'quality_drifts'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON quality_runs, quality_freezes, quality_recommendations, quality_drifts TO agentos_app;
GRANT SELECT, INSERT ON quality_feedback TO agentos_app;
GRANT SELECT, INSERT, DELETE ON quality_gates TO agentos_app;

CREATE POLICY system ON quality_runs FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON quality_drifts FOR SELECT TO agentos_owner USING (true);

-- The roles and deployments whose runs ended since then.
CREATE FUNCTION quality_scopes(p_since timestamptz) RETURNS TABLE (org text, scope text, target text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT DISTINCT q.org, s.scope, s.target FROM quality_runs q,
    LATERAL (VALUES ('role', q.category), ('deployment', q.deployment_id)) AS s (scope, target)
  WHERE q.ended_at >= p_since ORDER BY 1, 2, 3
$$;
CREATE INDEX quality_runs_by_time ON quality_runs (ended_at);

-- Drift that was looked at since then and is known.
CREATE FUNCTION quality_drifts_known(p_since timestamptz)
RETURNS TABLE (org text, scope text, target text, score double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT d.org, d.scope, d.target, d.score FROM quality_drifts d
  WHERE d.score IS NOT NULL AND d.looked_at >= p_since
$$;

REVOKE EXECUTE ON FUNCTION quality_scopes, quality_drifts_known FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quality_scopes, quality_drifts_known TO agentos_system;

-- It begins with everything that the outbox holds, which forgets nothing that it has not passed.
INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('quality', '0', 0) ON CONFLICT DO NOTHING;
