-- The last replay of each run: what it hashed to, and where it parted from its recording, if it did. Hashes and places,
-- never content.
CREATE TABLE replays (
  org            text NOT NULL REFERENCES organizations,
  run_id         text NOT NULL,
  agent_id       text NOT NULL,
  recorded_hash  text NOT NULL,
  replayed_hash  text NOT NULL,
  step           text,                 -- where it parted; NULL: it did not
  field          text,
  class          text,
  replayed_by    text NOT NULL,
  replayed_at    timestamptz NOT NULL,
  PRIMARY KEY (org, run_id),
  CHECK ((step IS NULL) = (class IS NULL) AND (step IS NULL) = (field IS NULL))
);
CREATE INDEX replays_by_time ON replays (replayed_at DESC);
CREATE INDEX replays_drifted ON replays (org, agent_id, step) WHERE step IS NOT NULL;

ALTER TABLE replays ENABLE ROW LEVEL SECURITY;
ALTER TABLE replays FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON replays TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
CREATE POLICY system ON replays FOR SELECT TO agentos_owner USING (true);
GRANT SELECT, INSERT, UPDATE ON replays TO agentos_app;

-- Runs whose last replay parted, by agent and step; a row with step '' and the runs that were replayed for each
-- organization, so that no drift is told as 0 and no replay as nothing.
CREATE FUNCTION replays_counted() RETURNS TABLE (org text, agent_id text, step text, value bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT r.org, r.agent_id, r.step, count(*) FROM replays r WHERE r.step IS NOT NULL GROUP BY r.org, r.agent_id, r.step
  UNION ALL
  SELECT r.org, r.agent_id, '', count(*) FROM replays r GROUP BY r.org, r.agent_id
$$;

-- The last replay of all, how many there are and how many of them parted, and where the last of those did.
CREATE FUNCTION replays_last(
  OUT recorded_hash text, OUT replayed_hash text, OUT replayed_at timestamptz, OUT replayed bigint, OUT drifted bigint,
  OUT step text, OUT field text, OUT class text
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT l.recorded_hash, l.replayed_hash, l.replayed_at, n.replayed, n.drifted, d.step, d.field, d.class
  FROM (SELECT count(*) AS replayed, count(r.step) AS drifted FROM replays r) AS n
  LEFT JOIN LATERAL (SELECT * FROM replays r ORDER BY r.replayed_at DESC LIMIT 1) AS l ON true
  LEFT JOIN LATERAL (SELECT * FROM replays r WHERE r.step IS NOT NULL ORDER BY r.replayed_at DESC LIMIT 1) AS d ON true
$$;

REVOKE EXECUTE ON FUNCTION replays_counted, replays_last FROM PUBLIC;
GRANT EXECUTE ON FUNCTION replays_counted, replays_last TO agentos_system;
