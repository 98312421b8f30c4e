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
