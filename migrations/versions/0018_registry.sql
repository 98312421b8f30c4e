-- Skills: every version that a process of the platform ever loaded, once and for all organizations. All may read it;
-- only the functions below write, as the system role.
CREATE TABLE skills (
  name          text NOT NULL,
  version       text NOT NULL,
  digest        text NOT NULL,              -- what a version of an agent pins
  contract      jsonb NOT NULL,             -- schemas and promises
  seal          text NOT NULL,              -- SHA-256 of the contract's canonical form: tells a row that was damaged
  first_seen    timestamptz NOT NULL,
  first_service text NOT NULL,
  PRIMARY KEY (name, version)
);

ALTER TABLE skills ENABLE ROW LEVEL SECURITY;
ALTER TABLE skills FORCE ROW LEVEL SECURITY;
CREATE POLICY everyones ON skills FOR SELECT TO agentos_app USING (true);
CREATE POLICY system ON skills TO agentos_owner USING (true) WITH CHECK (true);
GRANT SELECT ON skills TO agentos_app;

------------------------------------------------------------------------------------------------------------------------
-- What the system role may do with skills.

-- Register what is not registered yet, unless only told to look; and tell what holds for each, whoever registered it.
-- In one order, so that two processes that start at once wait for each other and never for ever.
CREATE FUNCTION skills_registered(p_skills jsonb, p_service text, p_write boolean)
RETURNS TABLE (name text, version text, digest text, added boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  one record;
  was_added boolean;
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
    RETURN QUERY SELECT k.name, k.version, k.digest, was_added FROM skills k
                 WHERE k.name = one.name AND k.version = one.version;
  END LOOP;
END $$;

-- Put one row back: a missing one, or the one that was seen with this digest and seal; false when it is another by now.
CREATE FUNCTION skill_restored(
  p_name text, p_version text, p_digest text, p_contract jsonb, p_seal text, p_first_seen timestamptz,
  p_first_service text, p_seen_digest text, p_seen_seal text
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
  RETURN FOUND;
END $$;

-- How many skills are registered.
CREATE FUNCTION skills_counted() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT count(*) FROM skills
$$;

REVOKE EXECUTE ON FUNCTION skills_registered, skill_restored, skills_counted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION skills_registered, skill_restored, skills_counted TO agentos_system;
