-- The limits of providers and the standing of models are of the installation, not of an organization: they are reached
-- by these functions only, which the system role may call.

CREATE TABLE model_limits (              -- a row per provider with a limit: whoever takes from it locks it
  provider  text PRIMARY KEY
);

CREATE TABLE model_grants (              -- a row per call that was let through, kept for a window
  provider  text NOT NULL REFERENCES model_limits,
  id        bigint GENERATED ALWAYS AS IDENTITY,
  at        timestamptz NOT NULL,
  tokens    bigint NOT NULL,             -- the most that it can use; what it used, once that is known
  PRIMARY KEY (provider, id)
);
CREATE INDEX model_grants_by_time ON model_grants (provider, at, id);

CREATE TABLE model_standings (           -- how a model did, as each process saw it last
  process   text NOT NULL,
  provider  text NOT NULL,
  model     text NOT NULL,
  state     text NOT NULL CHECK (state IN ('closed', 'half-open', 'open')),
  outcome   text NOT NULL,
  at        timestamptz NOT NULL,
  PRIMARY KEY (process, provider, model)
);

ALTER TABLE model_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_limits FORCE ROW LEVEL SECURITY;
ALTER TABLE model_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_grants FORCE ROW LEVEL SECURITY;
ALTER TABLE model_standings ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_standings FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON model_limits TO agentos_owner USING (true);
CREATE POLICY system ON model_grants TO agentos_owner USING (true);
CREATE POLICY system ON model_standings TO agentos_owner USING (true);

-- Let through as many of the waiting as there is room for, in their order. ``p_wanted`` holds the most tokens that each
-- can use; one that wants more than the limit goes alone. 0 is no limit. Answers the grants, and how many seconds the
-- first that was left waits if nothing else comes free. ``p_at`` stands in for the clock. The lock is held until the
-- commit and the clock is read under it, so grants are in the order of their times: in no window is there ever more
-- than the limit.
CREATE FUNCTION model_limit_take(
  p_provider text, p_requests bigint, p_tokens bigint, p_window double precision, p_wanted bigint[], p_at timestamptz,
  OUT grants bigint[], OUT wait double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  moment timestamptz;
  length interval := make_interval(secs => p_window);
  count_used bigint;
  tokens_used bigint;
  wanted bigint;
  made bigint;
BEGIN
  INSERT INTO model_limits VALUES (p_provider) ON CONFLICT DO NOTHING;
  PERFORM FROM model_limits l WHERE l.provider = p_provider FOR UPDATE;
  moment := coalesce(p_at, clock_timestamp());
  -- What a clock granted that was ahead, or was set back since, counts as granted now: its window is no shorter for
  -- that, and nobody waits until the clock is there again.
  UPDATE model_grants g SET at = moment WHERE g.provider = p_provider AND g.at > moment;
  DELETE FROM model_grants g WHERE g.provider = p_provider AND g.at <= moment - length;
  SELECT count(*), coalesce(sum(g.tokens), 0) INTO count_used, tokens_used
  FROM model_grants g WHERE g.provider = p_provider;
  grants := '{}';
  wait := 0;
  FOREACH wanted IN ARRAY p_wanted LOOP
    IF p_tokens > 0 THEN
      wanted := least(wanted, p_tokens);
    END IF;
    IF (p_requests > 0 AND count_used + 1 > p_requests) OR (p_tokens > 0 AND tokens_used + wanted > p_tokens) THEN
      SELECT extract(epoch FROM min(o.at) + length - moment) INTO wait
      FROM (
        SELECT g.at, count(*) OVER oldest AS freed, sum(g.tokens) OVER oldest AS freed_tokens
        FROM model_grants g WHERE g.provider = p_provider WINDOW oldest AS (ORDER BY g.at, g.id)
      ) AS o
      WHERE (p_requests = 0 OR o.freed >= count_used + 1 - p_requests)
        AND (p_tokens = 0 OR o.freed_tokens >= tokens_used + wanted - p_tokens);
      RETURN;
    END IF;
    INSERT INTO model_grants (provider, at, tokens) VALUES (p_provider, moment, wanted) RETURNING id INTO made;
    grants := grants || made;
    count_used := count_used + 1;
    tokens_used := tokens_used + wanted;
  END LOOP;
END $$;

-- Say what calls used; the rest of what was granted to them is free again. A grant of which nothing was sent has NULL
-- tokens and goes, and with it the request that it counted as.
CREATE FUNCTION model_limit_settle(p_provider text, p_grants bigint[], p_tokens bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  DELETE FROM model_grants g USING unnest(p_grants, p_tokens) AS used (id, tokens)
  WHERE g.provider = p_provider AND g.id = used.id AND used.tokens IS NULL;
  UPDATE model_grants g SET tokens = used.tokens
  FROM unnest(p_grants, p_tokens) AS used (id, tokens)   WHERE g.provider = p_provider AND g.id = used.id AND used.tokens IS NOT NULL;
$$;

CREATE FUNCTION model_limits_used(p_window double precision)
RETURNS TABLE (provider text, requests bigint, tokens bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT l.provider, count(g.id), coalesce(sum(g.tokens), 0)::bigint
  FROM model_limits l LEFT JOIN model_grants g
    ON g.provider = l.provider AND g.at > clock_timestamp() - make_interval(secs => p_window)
  GROUP BY l.provider ORDER BY l.provider
$$;

-- Keep how models do, as one process sees them, and forget what processes saw a day ago, and of each process all but
-- the models that it asked last: clients choose the names.
CREATE FUNCTION model_standings_put(p_process text, p_standings jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  DELETE FROM model_standings s WHERE s.at < clock_timestamp() - interval '1 day';
  INSERT INTO model_standings AS s (process, provider, model, state, outcome, at)
  SELECT p_process, said.provider, said.model, said.state, said.outcome, clock_timestamp()
  FROM jsonb_to_recordset(p_standings) AS said (provider text, model text, state text, outcome text)
  ON CONFLICT (process, provider, model)
  DO UPDATE SET state = excluded.state, outcome = excluded.outcome, at = excluded.at;
  DELETE FROM model_standings s WHERE s.process = p_process AND s.model IN (
    SELECT o.model FROM model_standings o
    WHERE o.process = p_process AND o.provider = s.provider ORDER BY o.at DESC, o.model OFFSET 200
  );
$$;

CREATE FUNCTION model_standings_get()
RETURNS TABLE (process text, provider text, model text, state text, outcome text, at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT s.process, s.provider, s.model, s.state, s.outcome, s.at FROM model_standings s
  ORDER BY s.at DESC LIMIT 1000
$$;

REVOKE EXECUTE ON FUNCTION model_limit_take, model_limit_settle, model_limits_used, model_standings_put,
  model_standings_get FROM PUBLIC;
GRANT EXECUTE ON FUNCTION model_limit_take, model_limit_settle, model_limits_used, model_standings_put,
  model_standings_get TO agentos_system;
