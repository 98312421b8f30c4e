-- The first transaction whose facts all have to be sealed, as the first chaining found it. ``mac`` is by a key that never comes
-- here: so that what is moved afterwards, to let facts pass for older ones, shows.
CREATE TABLE ledger_beginning (
  is_one  boolean PRIMARY KEY DEFAULT true CHECK (is_one),
  txid    xid8 NOT NULL,
  mac     bytea NOT NULL
);

-- Where it began, if that was ever said; what it would be now; and whether there are chains.
CREATE FUNCTION ledger_began(OUT txid text, OUT mac bytea, OUT next_txid text, OUT has_chains boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT b.txid::text, b.mac, pg_snapshot_xmax(pg_current_snapshot())::text, EXISTS (SELECT FROM ledger_heads)
  FROM (VALUES (1)) AS always LEFT JOIN ledger_beginning b ON true
$$;

-- Say so once.
CREATE FUNCTION ledger_begin(p_txid text, p_mac bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  INSERT INTO ledger_beginning (txid, mac) VALUES (p_txid::xid8, p_mac) ON CONFLICT DO NOTHING
$$;

REVOKE EXECUTE ON FUNCTION ledger_began, ledger_begin FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_began, ledger_begin TO agentos_system;
