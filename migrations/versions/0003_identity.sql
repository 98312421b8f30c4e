-- People have a role. Whoever was there before could do everything: the three that 'up' made keep what they need, any
-- other may look until an admin says more.
ALTER TABLE people ADD COLUMN role text NOT NULL DEFAULT 'viewer'
  CHECK (role IN ('viewer', 'operator', 'approver', 'incident_commander', 'admin'));
ALTER TABLE people ADD COLUMN disabled_at timestamptz;
UPDATE people SET role = CASE handle WHEN 'admin' THEN 'admin' WHEN 'author' THEN 'operator'
                                     WHEN 'approver' THEN 'approver' ELSE 'viewer' END;
ALTER TABLE people ALTER COLUMN role DROP DEFAULT;

-- A key belongs to a person or to a machine, which is known by its name alone.
ALTER TABLE keys ALTER COLUMN person_id DROP NOT NULL;
ALTER TABLE keys ADD COLUMN machine text;
ALTER TABLE keys ADD CONSTRAINT keys_holder CHECK ((person_id IS NULL) <> (machine IS NULL));
ALTER TABLE keys ADD COLUMN scopes text[];           -- NULL: whatever the person's role allows
ALTER TABLE keys ADD CONSTRAINT keys_machine_scopes CHECK (machine IS NULL OR scopes IS NOT NULL);
ALTER TABLE keys ADD COLUMN expires_at timestamptz;  -- NULL: never
ALTER TABLE keys ADD COLUMN created_by text NOT NULL DEFAULT 'bootstrap';
ALTER TABLE keys ALTER COLUMN created_by DROP DEFAULT;

CREATE INDEX runs_by_request ON runs (org, request_id);

GRANT UPDATE ON people TO agentos_app;

-- Who holds the key with this hash, and whether it still opens anything; no row for a key that never was.
DROP FUNCTION key_holder(bytea);
CREATE FUNCTION key_holder(p_hash bytea)
RETURNS TABLE (org text, key_id text, person_id text, handle text, role text, machine text, scopes text[],
               revoked boolean, expired boolean, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT k.org, k.id, k.person_id, p.handle, p.role, k.machine, k.scopes, k.revoked_at IS NOT NULL,
         coalesce(k.expires_at <= clock_timestamp(), false), p.disabled_at IS NOT NULL
  FROM keys k LEFT JOIN people p ON p.org = k.org AND p.id = k.person_id
  WHERE k.hash = p_hash
$$;

-- Organizations, for the operator at the machine.
CREATE FUNCTION organizations_all() RETURNS TABLE (org text, name text, created_at timestamptz, people bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT o.org, o.name, o.created_at, (SELECT count(*) FROM people p WHERE p.org = o.org) FROM organizations o ORDER BY 1
$$;

REVOKE EXECUTE ON FUNCTION key_holder, organizations_all FROM PUBLIC;
GRANT EXECUTE ON FUNCTION key_holder, organizations_all TO agentos_system;
