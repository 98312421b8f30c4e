-- Stops: orders that withhold action, one row each, lifted and never deleted.
--
-- A stop's horizon is the snapshot that was taken after its epoch was bumped. The bump waits for every intent that is
-- being journaled under the share lock of its scope, so an intent was committed before the order exactly when the
-- horizon sees it: this compares commits, not clocks. The same at the lift.
CREATE TABLE stops (
  org          text NOT NULL,              -- '*': of every organization, readable by all, written by system functions
  id           text NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('kill', 'pause', 'degrade', 'deny')),
  scope        text NOT NULL CHECK (scope IN ('global', 'organization', 'category', 'deployment', 'agent', 'skill',
                                              'domain', 'provider')),
  target       text NOT NULL,
  reason       text NOT NULL,
  ordered_by   text NOT NULL,
  ordered_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  horizon      pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
  lifted_by    text,
  lifted_at    timestamptz,
  lift_reason  text NOT NULL DEFAULT '',
  lift_horizon pg_snapshot,
  PRIMARY KEY (org, id),
  CHECK ((org = '*') = (scope = 'global'))
);
CREATE UNIQUE INDEX stops_in_force ON stops (org, kind, scope, target) WHERE lifted_at IS NULL;

ALTER TABLE stops ENABLE ROW LEVEL SECURITY;
ALTER TABLE stops FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON stops TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
CREATE POLICY everyones ON stops FOR SELECT TO agentos_app USING (org = '*');
GRANT SELECT, INSERT, UPDATE ON stops TO agentos_app;

-- Effects by time, for proofs and listings. Only intents are in it: one entry for each send of an effect.
CREATE INDEX journal_effects ON journal (org, at) WHERE phase = 'intent';
-- The runs that a stop has brought to rest.
CREATE INDEX journal_stopped ON journal (org, key) WHERE kind = 'note' AND name = 'stopped';

------------------------------------------------------------------------------------------------------------------------
-- What the system role may do with stops.

CREATE POLICY system ON stops TO agentos_owner USING (org = '*') WITH CHECK (org = '*');
CREATE POLICY system_reads ON epochs FOR SELECT TO agentos_owner USING (true);

-- Stop every organization; the stop's id, which is that of the first when the same is in force. The fact is told in the
-- organization that ordered it.
CREATE FUNCTION everything_stopped(
  p_id text, p_kind text, p_reason text, p_by text, p_org text, p_fact text, p_body jsonb
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  before text;
BEGIN
  UPDATE epochs SET value = value + 1 WHERE org = '*' AND scope = 'global';
  SELECT s.id INTO before FROM stops s WHERE s.org = '*' AND s.kind = p_kind AND s.lifted_at IS NULL;
  IF before IS NOT NULL THEN
    RETURN before;
  END IF;
  INSERT INTO stops (org, id, kind, scope, target, reason, ordered_by) VALUES ('*', p_id, p_kind, 'global', '', p_reason, p_by);
  INSERT INTO outbox (org, name, key, body) VALUES (p_org, p_fact, p_id, p_body);
  RETURN p_id;
END $$;

-- Lift a stop of every organization; false when it was lifted before.
CREATE FUNCTION everything_lifted(p_id text, p_reason text, p_by text, p_org text, p_fact text, p_body jsonb)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
BEGIN
  UPDATE epochs SET value = value + 1 WHERE org = '*' AND scope = 'global';
  UPDATE stops SET lifted_by = p_by, lifted_at = clock_timestamp(), lift_reason = p_reason,
                   lift_horizon = pg_current_snapshot()
  WHERE org = '*' AND id = p_id AND lifted_at IS NULL;
  IF FOUND THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, p_fact, p_id, p_body);
  END IF;
  RETURN FOUND;
END $$;

-- The epochs of these scopes, in their order; 'global' is everybody's. One query tells a process whether anything that
-- its runs' decisions stand on has moved.
CREATE FUNCTION epochs_now(p_orgs text[], p_scopes text[], OUT epochs bigint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT array_agg(e.value ORDER BY asked.n)
  FROM unnest(p_orgs, p_scopes) WITH ORDINALITY AS asked (org, scope, n)
  LEFT JOIN epochs e ON e.scope = asked.scope AND e.org = CASE asked.scope WHEN 'global' THEN '*' ELSE asked.org END
$$;

-- Runs that a stop holds, page after page by id, with what wakes each.
CREATE FUNCTION runs_stopped(p_stop text, p_after text, p_most integer) RETURNS TABLE (org text, id text, wake text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT r.org, r.id, r.waiting->>'wake' FROM runs r
  WHERE r.id > p_after AND r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
    AND r.waiting->>'reason' = 'stopped' AND r.waiting->>'detail' = p_stop
  ORDER BY r.id
  LIMIT p_most
$$;

REVOKE EXECUTE ON FUNCTION everything_stopped, everything_lifted, epochs_now, runs_stopped FROM PUBLIC;
GRANT EXECUTE ON FUNCTION everything_stopped, everything_lifted, epochs_now, runs_stopped TO agentos_system;
