-- No index of runs begins with the organization but the primary key. A plan that PostgreSQL makes while it knows nothing of
-- the table, and keeps, took the narrower of those indexes to find one run by organization and id, and so read all runs
-- of the organization at every step.
DROP INDEX runs_by_deployment;
CREATE INDEX runs_by_deployment ON runs (deployment_id, id);
DROP INDEX runs_by_request;
CREATE INDEX runs_by_request ON runs (request_id);

-- What is over is forgotten after a while, in batches; each answers how many there were.
CREATE INDEX firings_over ON firings (fired_at) WHERE state NOT IN ('fired', 'queued', 'admitted');
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE POLICY system ON firings TO agentos_owner USING (true);
CREATE POLICY system ON requests TO agentos_owner USING (true);
DROP POLICY system ON sessions;
CREATE POLICY system ON sessions TO agentos_owner USING (true);

CREATE FUNCTION firings_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT f.org, f.id FROM firings f WHERE f.state NOT IN ('fired', 'queued', 'admitted') AND f.fired_at < p_before
    LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (DELETE FROM firings f USING old WHERE f.org = old.org AND f.id = old.id RETURNING 1)
  SELECT count(*) FROM gone
$$;

CREATE FUNCTION sessions_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT s.org, s.id FROM sessions s WHERE s.expires_at < p_before LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (DELETE FROM sessions s USING old WHERE s.org = old.org AND s.id = old.id RETURNING 1)
  SELECT count(*) FROM gone
$$;

CREATE FUNCTION requests_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT r.org, r.key FROM requests r WHERE r.made_at < p_before LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (DELETE FROM requests r USING old WHERE r.org = old.org AND r.key = old.key RETURNING 1)
  SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION firings_forget, sessions_forget, requests_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION firings_forget, sessions_forget, requests_forget TO agentos_system;
REVOKE DELETE ON requests FROM agentos_app;
