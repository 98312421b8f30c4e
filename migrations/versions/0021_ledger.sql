-- A fact is sealed as it is written: HMAC-SHA256 over all that its row says, by a key that whoever connects brings with the
-- connection ('agentos.seal': both padded blocks of the key, as hex) and that is stored nowhere here. What was written
-- without one, before this release or past the platform, has no seal.
ALTER TABLE outbox ADD COLUMN seal bytea;

CREATE FUNCTION outbox_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  pads text := current_setting('agentos.seal', true);
BEGIN
  NEW.seal := NULL;
  IF length(pads) = 256 THEN
    NEW.seal := sha256(decode(right(pads, 128), 'hex') || sha256(decode(left(pads, 128), 'hex') || convert_to(
      NEW.txid::text || '|' || NEW.seq || '|' || extract(epoch FROM NEW.at) || '|' || NEW.org || '|' || NEW.name || '|'
      || length(NEW.key) || '|' || NEW.key || '|' || NEW.body::text, 'UTF8')));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER sealed BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_sealed();

------------------------------------------------------------------------------------------------------------------------
-- Entries, numbered from 1 without a gap within an organization. ``entry`` is what counts: the very bytes that ``hash`` is
-- keyed over, with the hash of the entry before within them. The columns beside it are there to be searched by.
CREATE TABLE ledger (
  org            text NOT NULL,
  number         bigint NOT NULL,
  hash           bytea NOT NULL,
  entry          bytea NOT NULL,
  at             timestamptz NOT NULL,
  name           text NOT NULL,
  key            text NOT NULL,
  person         text,
  run_id         text,
  deployment_id  text,
  PRIMARY KEY (org, number)
);
CREATE INDEX ledger_by_name ON ledger (org, name, number);
CREATE INDEX ledger_by_key ON ledger (org, key, number);
CREATE INDEX ledger_by_time ON ledger (org, at);
CREATE INDEX ledger_by_person ON ledger (org, person, number) WHERE person IS NOT NULL;
CREATE INDEX ledger_by_run ON ledger (org, run_id, number) WHERE run_id IS NOT NULL AND run_id <> key;
CREATE INDEX ledger_by_deployment ON ledger (org, deployment_id, number) WHERE deployment_id IS NOT NULL;

CREATE TABLE ledger_heads (
  org         text PRIMARY KEY,          -- '-': nobody's, as in facts about keys that nobody knows
  number      bigint NOT NULL,           -- of the last entry
  hash        bytea NOT NULL,
  txid        xid8 NOT NULL DEFAULT '0', -- of the fact of the last entry
  seq         bigint NOT NULL DEFAULT 0,
  is_sealed   boolean NOT NULL,          -- whether any fact up to it was sealed: from then on all are
  chained_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- What the last look over the whole chain found.
  verified_at      timestamptz,
  verified_number  bigint,
  verified_broken  text
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['ledger', 'ledger_heads'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I FOR SELECT TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
-- Nobody may change or remove an entry: not the application, and by these policies not the owner's functions either.
CREATE POLICY system_reads ON ledger FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system_adds ON ledger FOR INSERT TO agentos_owner WITH CHECK (true);
CREATE POLICY system ON ledger_heads TO agentos_owner USING (true) WITH CHECK (true);
GRANT SELECT ON ledger, ledger_heads TO agentos_app;

-- The next facts of all organizations that are not chained yet, in order, with what their seals are over.
CREATE FUNCTION ledger_read(p_most integer)
RETURNS TABLE (txid text, seq bigint, org text, name text, key text, body text, at timestamptz, moment text, seal bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  v_txid xid8 := '0';
  v_seq  bigint := 0;
BEGIN
  SELECT c.txid, c.seq INTO v_txid, v_seq FROM outbox_cursors c WHERE c.consumer = 'ledger';
  IF NOT FOUND THEN
    v_txid := '0';
    v_seq := 0;
  END IF;
  RETURN QUERY
    SELECT o.txid::text, o.seq, o.org, o.name, o.key, o.body::text, o.at, extract(epoch FROM o.at)::text, o.seal
    FROM outbox o
    WHERE (o.txid, o.seq) > (v_txid, v_seq) AND o.txid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY o.txid, o.seq
    LIMIT p_most;
END $$;

-- Where chains end: of these organizations, or of all.
CREATE FUNCTION ledger_ends(p_orgs text[])
RETURNS TABLE (org text, number bigint, hash bytea, is_sealed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT h.org, h.number, h.hash, h.is_sealed FROM ledger_heads h WHERE p_orgs IS NULL OR h.org = ANY (p_orgs)
$$;

-- Add entries and move the cursor behind their facts, in one transaction: all of it, or nothing when the first of them was
-- chained since it was read. Each chain has one writer at a time, by its lock. A chain whose end is not where it was read, or
-- that has entries behind it, was changed by somebody: its facts are set aside, and the others go on. Those are given back.
CREATE FUNCTION ledger_append(
  p_first_txid text, p_first_seq bigint, p_txid text, p_seq bigint,
  p_ends text[], p_was bigint[], p_was_hash bytea[], p_now bigint[], p_now_hash bytea[], p_sealed boolean[],
  p_now_txid text[], p_now_seq bigint[],
  p_orgs text[], p_numbers bigint[], p_hashes bytea[], p_entries bytea[], p_ats timestamptz[], p_names text[],
  p_keys text[], p_persons text[], p_runs text[], p_deployments text[]
) RETURNS text[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  left_out text[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger ' || o.one, 0))
  FROM (SELECT one FROM unnest(p_ends) AS one ORDER BY one) AS o;
  PERFORM FROM outbox_cursors c
  WHERE c.consumer = 'ledger' AND (c.txid, c.seq) >= (p_first_txid::xid8, p_first_seq) FOR UPDATE;
  IF FOUND THEN
    RAISE EXCEPTION 'the chaining has gone on' USING ERRCODE = '40001';
  END IF;
  left_out := ARRAY(
    SELECT e.org FROM unnest(p_ends, p_was, p_was_hash) AS e (org, was, was_hash)
    LEFT JOIN ledger_heads h ON h.org = e.org
    WHERE CASE WHEN h.org IS NULL THEN e.was <> 0 ELSE h.number <> e.was OR h.hash <> e.was_hash END
       OR EXISTS (SELECT FROM ledger l WHERE l.org = e.org AND l.number > e.was));
  INSERT INTO ledger_heads (org, number, hash, is_sealed)
  SELECT e.org, 0, e.was_hash, false FROM unnest(p_ends, p_was, p_was_hash) AS e (org, was, was_hash)
  WHERE e.was = 0 AND e.org <> ALL (left_out)
  ON CONFLICT DO NOTHING;
  UPDATE ledger_heads h SET number = e.now, hash = e.now_hash, is_sealed = e.sealed, txid = e.txid::xid8, seq = e.seq,
                            chained_at = clock_timestamp()
  FROM unnest(p_ends, p_now, p_now_hash, p_sealed, p_now_txid, p_now_seq) AS e (org, now, now_hash, sealed, txid, seq)
  WHERE h.org = e.org AND e.org <> ALL (left_out);
  INSERT INTO ledger (org, number, hash, entry, at, name, key, person, run_id, deployment_id)
  SELECT * FROM unnest(p_orgs, p_numbers, p_hashes, p_entries, p_ats, p_names, p_keys, p_persons, p_runs, p_deployments)
    AS e (org, number, hash, entry, at, name, key, person, run_id, deployment_id)
  WHERE e.org <> ALL (left_out);
  IF cardinality(left_out) > 0 THEN
    INSERT INTO outbox_failures (consumer, txid, seq, error)
    SELECT 'ledger', o.txid, o.seq, 'the chain does not go on from its end' FROM outbox o
    WHERE o.org = ANY (left_out) AND (o.txid, o.seq) >= (p_first_txid::xid8, p_first_seq)
      AND (o.txid, o.seq) <= (p_txid::xid8, p_seq)
    ON CONFLICT DO NOTHING;
  END IF;
  PERFORM outbox_move('ledger', p_txid, p_seq);
  RETURN left_out;
END $$;

-- Keep what a look over the whole chain of an organization found.
CREATE FUNCTION ledger_verified(p_org text, p_number bigint, p_broken text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  UPDATE ledger_heads SET verified_at = clock_timestamp(), verified_number = p_number, verified_broken = p_broken
  WHERE org = p_org
$$;

-- Every chain as the gauges tell it: its length, and what the last look over the whole of it found.
CREATE FUNCTION ledger_counted()
RETURNS TABLE (org text, number bigint, verified_seconds double precision, verified_broken text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT h.org, h.number, extract(epoch FROM clock_timestamp() - h.verified_at)::double precision, h.verified_broken
  FROM ledger_heads h
$$;

-- How many facts wait to be chained, and for how long the oldest of them has. ``is_astray``: the chainer would not begin
-- behind the last fact that was chained, or begins where no transaction of this cluster was yet, so that it passes facts:
-- its cursor was set, or the database was restored into a cluster with lower transaction ids.
-- ``set_aside``: facts of chains that do not go on from their ends.
CREATE FUNCTION ledger_waiting(OUT facts bigint, OUT seconds double precision, OUT is_astray boolean,
                               OUT set_aside bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  v_txid xid8 := '0';
  v_seq  bigint := 0;
BEGIN
  SELECT coalesce(max(c.txid), '0'), coalesce(max(c.seq), 0) INTO v_txid, v_seq
  FROM outbox_cursors c WHERE c.consumer = 'ledger';
  SELECT count(*) INTO set_aside FROM outbox_failures f WHERE f.consumer = 'ledger';
  is_astray := v_txid >= pg_snapshot_xmax(pg_current_snapshot()) OR EXISTS (
    SELECT FROM (SELECT h.txid, h.seq FROM ledger_heads h ORDER BY h.txid DESC, h.seq DESC LIMIT 1) AS last
    WHERE (last.txid, last.seq) <> (v_txid, v_seq));
  SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(o.at)), 0) INTO facts, seconds
  FROM outbox o WHERE (o.txid, o.seq) > (v_txid, v_seq);
END $$;

-- For how long the oldest entry has stood without an anchor, where these are the anchored ends of these chains.
CREATE FUNCTION ledger_unanchored(p_orgs text[], p_numbers bigint[]) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(l.at)), 0))::double precision
  FROM ledger_heads h
  LEFT JOIN unnest(p_orgs, p_numbers) AS a (org, number) ON a.org = h.org
  JOIN LATERAL (SELECT e.at FROM ledger e WHERE e.org = h.org AND e.number > coalesce(a.number, 0) AND e.number <= h.number
                ORDER BY e.number LIMIT 1) AS l ON true
$$;

-- Where the chainer begins: with everything that the outbox holds.
INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('ledger', '0', 0);

------------------------------------------------------------------------------------------------------------------------
-- A cursor passes what its consumer does not read, so that a consumer of rare facts does not look through all the others
-- again and again, and so that what every consumer has passed can be forgotten.
CREATE FUNCTION outbox_skip(p_consumer text, p_names text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  v_txid xid8;
  v_seq  bigint;
BEGIN
  SELECT o.txid, o.seq INTO v_txid, v_seq FROM outbox o
  WHERE o.txid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY o.txid DESC, o.seq DESC LIMIT 1;
  IF FOUND AND NOT EXISTS (SELECT FROM outbox_read(p_consumer, p_names, 1) r
                           WHERE (r.txid::xid8, r.seq) <= (v_txid, v_seq)) THEN
    PERFORM outbox_move(p_consumer, v_txid::text, v_seq);
  END IF;
END $$;

-- Forget facts that are chained and that every consumer has passed; how many there were. What a consumer has set aside
-- stays. A consumer that has no cursor yet reads what is left. Where whoever forgets has no key, there is no chainer to wait for:
-- facts that were never sealed go without being chained, sealed ones never do.
CREATE FUNCTION outbox_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  v_txid xid8;
  v_seq  bigint;
  done   bigint;
  has_key boolean := coalesce(length(current_setting('agentos.seal', true)), 0) > 0;
BEGIN
  SELECT c.txid, c.seq INTO v_txid, v_seq FROM outbox_cursors c WHERE has_key OR c.consumer <> 'ledger' ORDER BY c.txid, c.seq LIMIT 1;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  WITH old AS MATERIALIZED (
    SELECT o.txid, o.seq FROM outbox o
    WHERE (o.txid, o.seq) <= (v_txid, v_seq)
      AND (has_key OR o.seal IS NULL
           OR (o.txid, o.seq) <= (SELECT c.txid, c.seq FROM outbox_cursors c WHERE c.consumer = 'ledger'))
      AND NOT EXISTS (SELECT FROM outbox_failures f WHERE f.txid = o.txid AND f.seq = o.seq)
    ORDER BY o.txid, o.seq LIMIT p_most
  ), gone AS (
    DELETE FROM outbox o USING old WHERE o.txid = old.txid AND o.seq = old.seq AND o.at < p_before RETURNING 1
  )
  SELECT count(*) INTO done FROM gone;
  RETURN done;
END $$;

REVOKE EXECUTE ON FUNCTION outbox_sealed, ledger_read, ledger_ends, ledger_append, ledger_verified,
  ledger_counted, ledger_waiting, ledger_unanchored, outbox_skip, outbox_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox_sealed TO agentos_app;
GRANT EXECUTE ON FUNCTION outbox_sealed, ledger_read, ledger_ends, ledger_append, ledger_verified, ledger_counted,
  ledger_waiting, ledger_unanchored, outbox_skip, outbox_forget TO agentos_system;

------------------------------------------------------------------------------------------------------------------------
-- As in 0015, and what was decided and done of skills is a fact, too, in the very statement that journals it: one for all
-- rows of an append, with their ids, decisions and digests. Rows of models and notes are none of it.

CREATE OR REPLACE FUNCTION journal_append(
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
  IF p_kinds && ARRAY['skill', 'ask', 'draft'] THEN
    INSERT INTO outbox (org, name, key, body)
    SELECT p_org, 'StepsJournaled', p_run, jsonb_build_object(
      'run_id', p_run, 'deployment_id', owner.deployment_id, 'segment', p_segment, 'attempt', p_attempt,
      'steps', jsonb_agg(jsonb_build_object(
        'seq', p_first + i - 1, 'key', p_keys[i], 'phase', p_phases[i], 'kind', p_kinds[i], 'name', p_names[i],
        'status', p_statuses[i], 'effect', p_effects[i], 'idempotency_key', p_idempotency[i], 'meta', p_metas[i],
        'content', coalesce(p_blobs[i], 'sha256:' || encode(sha256(p_contents[i]), 'hex'))) ORDER BY i))
    FROM generate_series(1, cardinality(p_keys)) AS i WHERE p_kinds[i] IN ('skill', 'ask', 'draft');
  END IF;
  verdict := 'ok';
END $$;
