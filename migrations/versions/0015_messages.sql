-- Messages that people write to runs. A run's row counts those that it was handed, so that whoever reads that row anyway
-- learns of a new one; which they are, and in which order, is here. What they say is in the inbox.
ALTER TABLE runs ADD COLUMN messages integer NOT NULL DEFAULT 0;

CREATE TABLE run_messages (
  org         text NOT NULL,
  run_id      text NOT NULL,
  number      integer NOT NULL,          -- from 1, without a gap: given under the lock of the run's row
  message_id  text NOT NULL,
  author      text NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, run_id, number),
  UNIQUE (org, message_id),              -- a message is handed on once
  FOREIGN KEY (org, run_id) REFERENCES runs (org, id),
  FOREIGN KEY (org, message_id) REFERENCES inbox_messages (org, id)
);
ALTER TABLE run_messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_messages FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON run_messages TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
GRANT SELECT, INSERT ON run_messages TO agentos_app;

-- Not validated, since what the narrower check let in fits: a journal is long, and would be read while all runs wait.
ALTER TABLE journal DROP CONSTRAINT journal_kind_check;
ALTER TABLE journal ADD CONSTRAINT journal_kind_check
  CHECK (kind IN ('model', 'skill', 'ask', 'draft', 'note', 'message')) NOT VALID;

------------------------------------------------------------------------------------------------------------------------
-- As in 0001, and how many messages the run was handed comes back with every answer, too.

DROP FUNCTION journal_append;
CREATE FUNCTION journal_append(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_first integer,
  p_scopes text[], p_epochs bigint[],
  p_keys text[], p_phases text[], p_kinds text[], p_names text[], p_statuses text[], p_effects smallint[],
  p_idempotency text[], p_windows double precision[], p_metas jsonb[], p_contents bytea[], p_blobs text[],
  OUT verdict text, OUT standing text, OUT messages integer
) LANGUAGE plpgsql AS $$
DECLARE
  owner record;
  held integer;
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  SELECT r.segment, r.attempt, r.ordered, r.messages INTO owner
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
  verdict := 'ok';
END $$;

-- Record the end of a run and the fact that says so; false, and nothing written, when another attempt owns it. p_read:
-- how many of its messages the run has answered to; that there were more is a fact of its own.
DROP FUNCTION run_end;
CREATE FUNCTION run_end(
  p_org text, p_run text, p_segment integer, p_attempt integer, p_status text, p_output bytea, p_problem jsonb,
  p_fact text, p_body jsonb, p_read integer DEFAULT 0,
  OUT ended boolean, OUT seconds double precision, OUT unread integer
) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('agentos.organization', p_org, true);
  UPDATE runs r
  SET status = p_status, waiting = NULL, ordered = '', output = p_output, problem = p_problem,
      ended_at = clock_timestamp()
  WHERE r.org = p_org AND r.id = p_run AND r.segment = p_segment AND r.attempt = p_attempt
    AND r.status IN ('accepted', 'running', 'waiting_approval', 'paused')
  RETURNING extract(epoch FROM r.ended_at - r.accepted_at), r.messages - p_read INTO seconds, unread;
  ended := FOUND;
  IF ended THEN
    INSERT INTO outbox (org, name, key, body) VALUES (p_org, p_fact, p_run, p_body);
    IF unread > 0 THEN
      INSERT INTO outbox (org, name, key, body)
      VALUES (p_org, 'MessagesUnread', p_run, jsonb_build_object('run_id', p_run, 'unread', unread));
    END IF;
  END IF;
END $$;

REVOKE EXECUTE ON FUNCTION journal_append, run_end FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_append, run_end TO agentos_app;

-- What was written before runs could read it stays talk: the consumer begins here, and not with all of the outbox.
INSERT INTO outbox_cursors (consumer, txid, seq)
VALUES ('run_messages', pg_snapshot_xmin(pg_current_snapshot()), 0);
