-- Policies: every one that was ever in force, never changed. The highest number of a scope is in force.
CREATE TABLE policies (
  org        text NOT NULL REFERENCES organizations,
  scope      text NOT NULL,              -- 'organization', or 'deployment:' and its id
  number     integer NOT NULL,           -- 1, 2, 3 … within the scope
  hash       text NOT NULL,              -- SHA-256 of the canonical document: the policy's name
  document   jsonb NOT NULL,
  reason     text NOT NULL,
  saved_by   text NOT NULL,
  saved_at   timestamptz NOT NULL,
  PRIMARY KEY (org, scope, number)
);

ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON policies TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
GRANT SELECT, INSERT ON policies TO agentos_app;
