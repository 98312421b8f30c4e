-- The cursor is read first: compared with a sub-select, a position is no bound that the primary key could be searched by,
-- and each look at the outbox read all of it.
CREATE OR REPLACE FUNCTION outbox_read(p_consumer text, p_names text[], p_most integer)
RETURNS TABLE (txid text, seq bigint, org text, name text, body jsonb, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  v_txid xid8 := '0';
  v_seq  bigint := 0;
BEGIN
  SELECT c.txid, c.seq INTO v_txid, v_seq FROM outbox_cursors c WHERE c.consumer = p_consumer;
  IF NOT FOUND THEN
    v_txid := '0';
    v_seq := 0;
  END IF;
  RETURN QUERY
    SELECT o.txid::text, o.seq, o.org, o.name, o.body, o.at
    FROM outbox o
    WHERE (o.txid, o.seq) > (v_txid, v_seq)
      AND o.txid < pg_snapshot_xmin(pg_current_snapshot())
      AND o.name = ANY (p_names)
    ORDER BY o.txid, o.seq
    LIMIT p_most;
END $$;
