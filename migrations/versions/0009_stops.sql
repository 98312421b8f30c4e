-- Stops: orders that withhold action, one row each, lifted and never deleted.
CREATE TABLE stops (
  org         text NOT NULL,              -- '*': of every organization, readable by all, written by system functions
  id          text NOT NULL,
  kind        text NOT NULL CHECK (kind IN ('kill', 'pause', 'degrade', 'deny')),
  scope       text NOT NULL CHECK (scope IN ('global', 'organization', 'category', 'deployment', 'agent', 'skill',
                                             'domain', 'provider')),
  target      text NOT NULL,
  reason      text NOT NULL,
  ordered_by  text NOT NULL,
  ordered_at  timestamptz NOT NULL,
  lifted_by   text,
  lifted_at   timestamptz,
  PRIMARY KEY (org, id)
);
CREATE INDEX stops_in_force ON stops (org) WHERE lifted_at IS NULL;

ALTER TABLE stops ENABLE ROW LEVEL SECURITY;
ALTER TABLE stops FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON stops TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
CREATE POLICY everyones ON stops FOR SELECT TO agentos_app USING (org = '*');
GRANT SELECT, INSERT, UPDATE ON stops TO agentos_app;
