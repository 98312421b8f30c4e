-- Deployments with something to watch after this one, in order: a canary that is open, or a rollback whose checks are. The
-- function of before stays for workers of the release before.
CREATE FUNCTION rollouts_watched(p_org text, p_deployment text, p_most integer)
RETURNS TABLE (org text, deployment_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT c.org, c.deployment_id FROM canaries c
  WHERE c.outcome = 'open' AND (c.org, c.deployment_id) > (p_org, p_deployment)
  UNION
  SELECT b.org, b.deployment_id FROM rollbacks b
  WHERE b.outcome = 'waiting' AND (b.org, b.deployment_id) > (p_org, p_deployment)
  ORDER BY 1, 2 LIMIT p_most
$$;

-- Forget what shadows came to before this; how many runs that were.
CREATE INDEX shadow_runs_by_time ON shadow_runs (at);
CREATE POLICY system ON shadow_runs TO agentos_owner USING (true);
CREATE FUNCTION shadow_runs_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT o.org, o.deployment_id, o.version, o.run_id FROM shadow_runs o WHERE o.at < p_before
    LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM shadow_runs s USING old WHERE s.org = old.org AND s.deployment_id = old.deployment_id
      AND s.version = old.version AND s.run_id = old.run_id RETURNING 1
  )
  SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION rollouts_watched(text, text, integer), shadow_runs_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rollouts_watched(text, text, integer), shadow_runs_forget TO agentos_system;
