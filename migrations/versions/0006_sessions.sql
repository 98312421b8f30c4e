ALTER TABLE people ADD COLUMN password text;   -- argon2id, with its own salt and parameters; NULL: no password opens it

CREATE TABLE sessions (
  org         text NOT NULL,
  id          text NOT NULL,
  person_id   text NOT NULL,
  hash        bytea NOT NULL UNIQUE,     -- SHA-256 of a random 256-bit secret, which the browser keeps
  started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at  timestamptz NOT NULL,
  ended_at    timestamptz,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, person_id) REFERENCES people (org, id)
);
CREATE INDEX sessions_of_people ON sessions (org, person_id) WHERE ended_at IS NULL;

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sessions TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
GRANT SELECT, INSERT, UPDATE ON sessions TO agentos_app;
CREATE POLICY system ON sessions FOR SELECT TO agentos_owner USING (true);

-- Whose session this is, and whether it still opens anything; no row for one that never was.
CREATE FUNCTION session_holder(p_hash bytea)
RETURNS TABLE (org text, session_id text, person_id text, handle text, role text, ended boolean, expired boolean,
               disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT s.org, s.id, s.person_id, p.handle, p.role, s.ended_at IS NOT NULL, s.expires_at <= clock_timestamp(),
         p.disabled_at IS NOT NULL
  FROM sessions s JOIN people p ON p.org = s.org AND p.id = s.person_id
  WHERE s.hash = p_hash
$$;
REVOKE EXECUTE ON FUNCTION session_holder FROM PUBLIC;
GRANT EXECUTE ON FUNCTION session_holder TO agentos_system;
