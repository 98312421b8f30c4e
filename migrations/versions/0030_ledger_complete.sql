-- The first transaction whose facts all have to be sealed, as the first chaining found it. ``mac`` is by a key that never comes
-- here: so that what is moved afterwards, to let facts pass for older ones, shows.
CREATE TABLE ledger_beginning (
  is_one  boolean PRIMARY KEY DEFAULT true CHECK (is_one),
  txid    xid8 NOT NULL,
  mac     bytea NOT NULL
);
ALTER TABLE ledger_beginning ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_beginning FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON ledger_beginning TO agentos_owner USING (true) WITH CHECK (true);

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

------------------------------------------------------------------------------------------------------------------------
-- Found an organization; true when it is new. That is the first of its facts.
DROP FUNCTION organization_found(text, text);
CREATE FUNCTION organization_found(p_org text, p_name text, p_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
BEGIN
  INSERT INTO organizations (org, name) VALUES (p_org, p_name) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO outbox (org, name, key, body) VALUES (p_org, 'OrganizationFounded', p_org, jsonb_build_object(
    'organization', p_org, 'by', p_by));
  RETURN true;
END $$;

-- As in 0018, and what is registered is a fact of every organization, as every one is served with it.
CREATE OR REPLACE FUNCTION skills_registered(p_skills jsonb, p_service text, p_write boolean)
RETURNS TABLE (name text, version text, digest text, added boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  one record;
  was_added boolean;
  told jsonb := '[]';
BEGIN
  FOR one IN
    SELECT s.* FROM jsonb_to_recordset(p_skills) AS s (name text, version text, digest text, contract jsonb, seal text)
    ORDER BY s.name, s.version
  LOOP
    was_added := false;
    IF p_write THEN
      INSERT INTO skills (name, version, digest, contract, seal, first_seen, first_service)
      VALUES (one.name, one.version, one.digest, one.contract, one.seal, clock_timestamp(), p_service)
      ON CONFLICT ON CONSTRAINT skills_pkey DO NOTHING;
      was_added := FOUND;
    END IF;
    IF was_added THEN
      told := told || jsonb_build_object('skill', one.name, 'version', one.version, 'digest', one.digest);
    END IF;
    RETURN QUERY SELECT k.name, k.version, k.digest, was_added FROM skills k
                 WHERE k.name = one.name AND k.version = one.version;
  END LOOP;
  IF told <> '[]' THEN
    INSERT INTO outbox (org, name, key, body)
    SELECT o.org, 'SkillsRegistered', p_service, jsonb_build_object('service', p_service, 'skills', told)
    FROM organizations o;
  END IF;
END $$;

-- As in 0018, and who put it back and what was there before is a fact of every organization.
DROP FUNCTION skill_restored(text, text, text, jsonb, text, timestamptz, text, text, text);
CREATE FUNCTION skill_restored(
  p_name text, p_version text, p_digest text, p_contract jsonb, p_seal text, p_first_seen timestamptz,
  p_first_service text, p_seen_digest text, p_seen_seal text, p_by text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
BEGIN
  IF p_seen_digest IS NULL THEN
    INSERT INTO skills (name, version, digest, contract, seal, first_seen, first_service)
    VALUES (p_name, p_version, p_digest, p_contract, p_seal, p_first_seen, p_first_service)
    ON CONFLICT ON CONSTRAINT skills_pkey DO NOTHING;
  ELSE
    UPDATE skills SET digest = p_digest, contract = p_contract, seal = p_seal, first_seen = p_first_seen,
                      first_service = p_first_service
    WHERE name = p_name AND version = p_version AND digest = p_seen_digest AND seal = p_seen_seal;
  END IF;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO outbox (org, name, key, body)
  SELECT o.org, 'SkillRestored', p_name, jsonb_build_object(
    'skill', p_name, 'version', p_version, 'digest', p_digest, 'was', p_seen_digest, 'by', p_by)
  FROM organizations o;
  RETURN true;
END $$;

REVOKE EXECUTE ON FUNCTION organization_found, skill_restored FROM PUBLIC;
GRANT EXECUTE ON FUNCTION organization_found, skill_restored TO agentos_system;
