-- Where the chainer stands, and the last entry of the chain that went on last, in one snapshot: they name one fact, or
-- somebody set one of them. Nothing where there is no chain.
CREATE FUNCTION ledger_last()
RETURNS TABLE (txid text, seq bigint, org text, number bigint, hash bytea, entry bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT c.txid::text, c.seq, h.org, h.number, l.hash, l.entry
  FROM (SELECT g.org, g.number FROM ledger_heads g ORDER BY g.txid DESC, g.seq DESC LIMIT 1) AS h
  JOIN outbox_cursors c ON c.consumer = 'ledger'
  LEFT JOIN ledger l ON l.org = h.org AND l.number = h.number
$$;

-- The last entry of every organization, with what its chain's end says of it, and where the chainer stands, in one snapshot.
CREATE FUNCTION ledger_lasts()
RETURNS TABLE (txid text, seq bigint, org text, told_txid text, told_seq bigint, number bigint, hash bytea, entry bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT c.txid::text, c.seq, every.org, coalesce(h.txid, '0')::text, coalesce(h.seq, 0), l.number, l.hash, l.entry
  FROM (SELECT org FROM organizations UNION SELECT org FROM ledger_heads UNION SELECT '-') AS every
  JOIN outbox_cursors c ON c.consumer = 'ledger'
  LEFT JOIN ledger_heads h ON h.org = every.org
  LEFT JOIN LATERAL (SELECT e.number, e.hash, e.entry FROM ledger e WHERE e.org = every.org
                     ORDER BY e.number DESC LIMIT 1) AS l ON true
$$;

-- Put the chainer back to where it was, if it still stands where it should not; what was set aside behind it is tried again.
CREATE FUNCTION ledger_put_back(p_was_txid text, p_was_seq bigint, p_txid text, p_seq bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
BEGIN
  UPDATE outbox_cursors SET txid = p_txid::xid8, seq = p_seq
  WHERE consumer = 'ledger' AND (txid, seq) = (p_was_txid::xid8, p_was_seq);
  IF FOUND THEN
    DELETE FROM outbox_failures WHERE consumer = 'ledger' AND (txid, seq) > (p_txid::xid8, p_seq);
  END IF;
END $$;

-- The first fact that the outbox still holds, behind that of an organization's first entry, which the chainer has passed
-- and no entry is of; and how many there are. One look over the outbox, which holds a week.
CREATE FUNCTION ledger_passed(p_txid text, p_seq bigint, OUT id text, OUT at timestamptz, OUT facts bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  v_org  text := current_setting('agentos.organization', true);
  v_txid xid8;
  v_seq  bigint;
BEGIN
  SELECT c.txid, c.seq INTO v_txid, v_seq FROM outbox_cursors c WHERE c.consumer = 'ledger';
  SELECT min(lpad(p.txid::text, 20, '0') || '-' || lpad(p.seq::text, 20, '0')), min(p.at), count(*)
  INTO id, at, facts FROM (
    SELECT o.txid, o.seq, o.at FROM outbox o
    WHERE o.org = v_org AND (o.txid, o.seq) > (p_txid::xid8, p_seq) AND (o.txid, o.seq) <= (v_txid, v_seq)
      AND NOT EXISTS (
        SELECT FROM ledger l
        WHERE l.org = v_org AND l.at = o.at AND l.name = o.name AND l.key = o.key
          AND position(convert_to('"id":"' || o.txid || '-' || o.seq || '"', 'UTF8') IN l.entry) > 0)
  ) AS p;
  id := ltrim(split_part(id, '-', 1), '0') || '-' || ltrim(split_part(id, '-', 2), '0');
END $$;

REVOKE EXECUTE ON FUNCTION ledger_last, ledger_lasts, ledger_put_back, ledger_passed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_last, ledger_lasts, ledger_put_back TO agentos_system;
GRANT EXECUTE ON FUNCTION ledger_passed TO agentos_app;
