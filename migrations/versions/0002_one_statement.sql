-- The other statements that every run makes: one round trip and one commit each, as agentos_app under row-level
-- security like journal_append, whose locks they conflict with.

-- Take a run over for a segment, fencing out every older attempt: the update waits for an append that is under way. The
-- run is NULL when it is over, unknown, or past this segment. 'deployment:*' and 'category:*' stand for the run's own.
CREATE FUNCTION run_claim(
  p_org text, p_run text, p_segment integer, p_scopes text[],
  OUT claimed runs, OUT tier smallint, OUT state text, OUT seconds_left double precision,
  OUT scopes text[], OUT epochs bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  wanted text[];
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  UPDATE runs r
  SET segment = p_segment, attempt = CASE WHEN r.segment = p_segment THEN r.attempt + 1 ELSE 1 END, status = 'running',
      started_at = coalesce(r.started_at, clock_timestamp())
  WHERE r.org = p_org AND r.id = p_run AND r.segment <= p_segment
    AND r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
  RETURNING r.* INTO claimed;
  IF claimed.id IS NULL THEN
    RETURN;
  END IF;
  -- Epochs first: what moves between the two reads makes the next intent fail its check, never pass it.
  SELECT array_agg(replace(replace(one, 'deployment:*', 'deployment:' || claimed.deployment_id),
                           'category:*', 'category:' || claimed.category))
    INTO wanted FROM unnest(p_scopes) AS one;
  SELECT array_agg(e.scope), array_agg(e.value) INTO scopes, epochs
    FROM epochs e WHERE e.scope = ANY (wanted) AND e.org IN (p_org, '*');
  SELECT d.tier, d.state INTO tier, state FROM deployments d WHERE d.org = p_org AND d.id = claimed.deployment_id;
  seconds_left := extract(epoch FROM claimed.deadline - clock_timestamp());
END $$;

-- Record the end of a run and the fact that says so; false, and nothing written, when another attempt owns it.
CREATE FUNCTION run_end(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_status text, p_output bytea, p_problem jsonb,
  p_fact text, p_body jsonb,
  OUT ended boolean, OUT seconds double precision
) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  UPDATE runs r
  SET status = p_status, waiting = NULL, ordered = '', output = p_output, problem = p_problem,
      ended_at = clock_timestamp()
  WHERE r.org = p_org AND r.id = p_run AND r.segment = p_segment AND r.attempt = p_attempt
    AND r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
  RETURNING extract(epoch FROM r.ended_at - r.accepted_at) INTO seconds;
  ended := FOUND;
  IF ended THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, p_fact, p_run, p_body);
  END IF;
END $$;

-- Where a run stands; NULL when there is none.
CREATE FUNCTION run_position(p_org text, p_run text, OUT segment integer, OUT status text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  SELECT r.segment, r.status INTO segment, status FROM runs r WHERE r.org = p_org AND r.id = p_run;
END $$;

REVOKE EXECUTE ON FUNCTION run_claim, run_end, run_position FROM PUBLIC;
GRANT EXECUTE ON FUNCTION run_claim, run_end, run_position TO agentos_app;
