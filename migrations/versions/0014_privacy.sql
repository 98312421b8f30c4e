-- What each organization looks for and what becomes of it; without a row the installation's rules are in force.
CREATE TABLE privacy_rules (
  org         text PRIMARY KEY REFERENCES organizations,
  rules       jsonb NOT NULL,
  changed_by  text NOT NULL,
  changed_at  timestamptz NOT NULL
);

ALTER TABLE privacy_rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE privacy_rules FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON privacy_rules TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
GRANT SELECT, INSERT, UPDATE ON privacy_rules TO agentos_app;
