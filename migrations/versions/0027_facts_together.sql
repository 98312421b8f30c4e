-- One look at the outbox for all consumers of a process: the names of the facts behind a position that no open transaction
-- can still overtake, and the position of the last of them. Without a position there are no names, only the end.
CREATE FUNCTION outbox_news(p_txid text, p_seq bigint, OUT txid text, OUT seq bigint, OUT names text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  v_txid xid8 := coalesce(p_txid, '0')::xid8;
  v_seq  bigint := coalesce(p_seq, 0);
BEGIN
  SELECT o.txid, o.seq INTO v_txid, v_seq FROM outbox o
  WHERE (o.txid, o.seq) > (v_txid, v_seq) AND o.txid < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY o.txid DESC, o.seq DESC LIMIT 1;
  IF NOT FOUND THEN
    v_txid := coalesce(p_txid, '0')::xid8;
    v_seq := coalesce(p_seq, 0);
  ELSIF p_txid IS NOT NULL THEN
    names := ARRAY(SELECT DISTINCT o.name FROM outbox o
                   WHERE (o.txid, o.seq) > (p_txid::xid8, p_seq) AND (o.txid, o.seq) <= (v_txid, v_seq));
  END IF;
  txid := v_txid::text;
  seq := v_seq;
  names := coalesce(names, '{}');
END $$;
REVOKE EXECUTE ON FUNCTION outbox_news FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox_news TO agentos_system;

------------------------------------------------------------------------------------------------------------------------
-- An append brings the text of its fact: put together here out of the rows, it cost a fifth of the statement. The function
-- of before stays beside it for workers of the release before, whose runs are under way.
CREATE FUNCTION journal_append(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_first integer,
  p_scopes text[], p_epochs bigint[],
  p_keys text[], p_phases text[], p_kinds text[], p_names text[], p_statuses text[], p_effects smallint[],
  p_idempotency text[], p_windows double precision[], p_metas jsonb[], p_contents bytea[], p_blobs text[], p_fact text,
  OUT verdict text, OUT standing text, OUT messages integer
) LANGUAGE plpgsql AS $$
DECLARE
  owner record;
  held integer;
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  SELECT r.segment, r.attempt, r.ordered, r.messages, r.deployment_id INTO owner
    FROM runs r WHERE r.org = p_org AND r.id = p_run FOR SHARE;
  standing := coalesce(owner.ordered, '');
  messages := coalesce(owner.messages, 0);
  IF owner.segment IS DISTINCT FROM p_segment OR owner.attempt IS DISTINCT FROM p_attempt THEN
    verdict := 'fenced';
    RETURN;
  END IF;
  IF cardinality(p_scopes) > 0 THEN
    IF standing <> '' THEN
      verdict := 'ordered';
      RETURN;
    END IF;
    SELECT count(*) INTO held FROM (
      SELECT 1 FROM epochs e JOIN unnest(p_scopes, p_epochs) AS seen (scope, value)
        ON e.scope = seen.scope AND e.value = seen.value AND e.org IN (p_org, '*')
      FOR SHARE OF e
    ) AS same;
    IF held <> cardinality(p_scopes) THEN
      verdict := 'epochs';
      RETURN;
    END IF;
  END IF;
  INSERT INTO journal (org, run_id, seq, key, phase, kind, name, status, effect, idempotency_key, send_before,
                       segment, attempt, meta, content, blob)
  SELECT p_org, p_run, p_first + i - 1, p_keys[i], p_phases[i], p_kinds[i], p_names[i], p_statuses[i], p_effects[i],
         p_idempotency[i], clock_timestamp() + make_interval(secs => p_windows[i]),
         p_segment, p_attempt, p_metas[i], p_contents[i], p_blobs[i]
  FROM generate_series(1, cardinality(p_keys)) AS i;
  IF p_fact IS NOT NULL THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'StepsJournaled', p_run, p_fact::jsonb);
  END IF;
  verdict := 'ok';
END $$;
REVOKE EXECUTE ON FUNCTION journal_append(
  text, text, integer, integer, integer, text[], bigint[], text[], text[], text[], text[], text[], smallint[], text[],
  double precision[], jsonb[], bytea[], text[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_append(
  text, text, integer, integer, integer, text[], bigint[], text[], text[], text[], text[], text[], smallint[], text[],
  double precision[], jsonb[], bytea[], text[], text) TO agentos_app;
