-- What runs produced and read, named by the SHA-256 of its bytes. The bytes stay where they are: in journals, their blobs,
-- runs and drafts. Here is what it was, where it was used, and what it takes to find it.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
    BEGIN
      CREATE EXTENSION vector SCHEMA public;
    EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR invalid_schema_name THEN
      RAISE EXCEPTION 'this database has no extension vector (pgvector 0.7 or newer)'
        USING HINT = 'Install pgvector and let a superuser run CREATE EXTENSION vector in this database.';
    END;
  END IF;
END $$;

CREATE TABLE artifacts (
  org         text NOT NULL REFERENCES organizations,
  digest      text NOT NULL,           -- sha256: and the hash of the bytes as they are stored
  media_type  text NOT NULL,
  size        bigint NOT NULL,         -- of the bytes
  characters  integer NOT NULL,        -- of its text
  searched    integer NOT NULL,        -- of these, from the first on
  PRIMARY KEY (org, digest)
);

-- Where an artifact was produced or read: one row of a journal, or the input (seq 0) or output (seq -1) of a run.
CREATE TABLE artifact_uses (
  org            text NOT NULL,
  run_id         text NOT NULL,
  seq            integer NOT NULL,
  digest         text NOT NULL,
  step           text NOT NULL,
  kind           text NOT NULL CHECK (kind IN ('input', 'read', 'effect', 'result', 'refusal', 'draft', 'message',
                                               'answer', 'output')),
  name           text NOT NULL,        -- of the skill or the model; empty where there is none
  effect         smallint,             -- effect class of the skill
  status         text NOT NULL,
  approval_id    text,
  agent_id       text NOT NULL,
  category       text NOT NULL,
  deployment_id  text NOT NULL,
  version        text NOT NULL,
  at             timestamptz NOT NULL,
  PRIMARY KEY (org, run_id, seq),
  FOREIGN KEY (org, digest) REFERENCES artifacts (org, digest)
);
CREATE INDEX artifact_uses_by_digest ON artifact_uses (org, digest, at DESC);
CREATE INDEX artifact_uses_by_time ON artifact_uses (org, at DESC, run_id, seq);
CREATE INDEX artifact_uses_by_agent ON artifact_uses (org, agent_id, at DESC);
CREATE INDEX artifact_uses_by_age ON artifact_uses (at);

-- An artifact's text in pieces, by their place in it; the text itself is not kept again.
CREATE TABLE artifact_passages (
  org        text NOT NULL,
  digest     text NOT NULL,
  number     integer NOT NULL,
  start      integer NOT NULL,
  words      tsvector NOT NULL,
  embedder   text NOT NULL DEFAULT '',  -- what made the embedding; empty: there is none yet
  PRIMARY KEY (org, digest, number),
  FOREIGN KEY (org, digest) REFERENCES artifacts (org, digest) ON DELETE CASCADE
);
CREATE INDEX artifact_passages_by_words ON artifact_passages USING gin (words);
CREATE INDEX artifact_passages_by_embedder ON artifact_passages (org, embedder);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['artifacts', 'artifact_uses', 'artifact_passages'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
    EXECUTE format('CREATE POLICY system ON %I TO agentos_owner USING (true)', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT ON artifacts, artifact_uses TO agentos_app;
GRANT SELECT, INSERT, UPDATE ON artifact_passages TO agentos_app;

-- Whatever schema pgvector is in, its type and operators are found there.
DO $do$
DECLARE
  there text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                 WHERE e.extname = 'vector');
BEGIN
  EXECUTE format('ALTER TABLE artifact_passages ADD embedding %I.halfvec', there);
  -- Inline as long as the row allows it: likeness is measured row by row.
  ALTER TABLE artifact_passages ALTER embedding SET STORAGE MAIN;

  EXECUTE format($make$
    -- Add the passages of an artifact that is not known yet. Embeddings are written as [1,2,3].
    CREATE FUNCTION artifact_passages_add(p_org text, p_digest text, p_starts integer[], p_texts text[], p_embedder text,
                                          p_embeddings text[])
    RETURNS void LANGUAGE sql SET search_path = agentos, %1$I AS $$
      INSERT INTO artifact_passages (org, digest, number, start, words, embedder, embedding)
      SELECT p_org, p_digest, n, p_starts[n], to_tsvector('simple', p_texts[n]), p_embedder, p_embeddings[n]::halfvec
      FROM generate_series(1, cardinality(p_starts)) AS n ON CONFLICT DO NOTHING
    $$;

    CREATE FUNCTION artifact_passages_embed(p_digest text, p_embedder text, p_embeddings text[])
    RETURNS void LANGUAGE sql SET search_path = agentos, %1$I AS $$
      UPDATE artifact_passages p SET embedder = p_embedder, embedding = p_embeddings[p.number]::halfvec
      WHERE p.digest = p_digest AND p.number <= cardinality(p_embeddings)
    $$;

    -- The passages of this organization most like a vector, exactly, among the p_bound newest uses that pass the filters.
    CREATE FUNCTION artifacts_by_likeness(p_vector text, p_embedder text, p_agent text, p_run text, p_kind text,
                                          p_since timestamptz, p_until timestamptz, p_floor double precision,
                                          p_bound integer, p_most integer)
    RETURNS TABLE (digest text, number integer, likeness double precision)
    LANGUAGE sql STABLE SET search_path = agentos, %1$I AS $$
      SELECT s.digest, s.number, s.likeness FROM (
        SELECT p.digest, p.number, 1 - (p.embedding <=> p_vector::halfvec) AS likeness
        FROM (
          SELECT DISTINCT n.org, n.digest FROM (
            SELECT u.org, u.digest FROM artifact_uses u
            WHERE (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
              AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until
            ORDER BY u.at DESC LIMIT p_bound
          ) AS n
        ) AS d
        JOIN artifact_passages p ON p.org = d.org AND p.digest = d.digest AND p.embedder = p_embedder
          AND vector_dims(p.embedding) = vector_dims(p_vector::halfvec)
      ) AS s
      WHERE s.likeness >= p_floor AND s.likeness <> 'NaN'  -- of a text without a word
      ORDER BY s.likeness DESC, s.digest, s.number LIMIT p_most
    $$;
  $make$, there);
END $do$;

-- A query as people write it ("a phrase", or, -without): all of it, and any of its words where it leaves nothing out.
CREATE FUNCTION artifact_words(p_query text, OUT every tsquery, OUT any_of tsquery)
LANGUAGE sql IMMUTABLE SET search_path = agentos AS $$
  SELECT q.every, CASE WHEN q.every::text LIKE '%!%' THEN q.every
                       ELSE replace(q.every::text, ' & ', ' | ')::tsquery END
  FROM (SELECT websearch_to_tsquery('simple', p_query) AS every) AS q
$$;

-- The passages of this organization that hold the words: first those that hold all that is asked, then those with any.
-- It runs as the owner, because row-level security would keep the planner from the index of words; the organization is
-- that of the transaction, as for every policy.
CREATE FUNCTION artifacts_by_words(p_query text, p_agent text, p_run text, p_kind text, p_since timestamptz,
                                   p_until timestamptz, p_most integer)
RETURNS TABLE (digest text, number integer, holds_all boolean, rank real)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT p.digest, p.number, p.words @@ q.every, ts_rank(p.words, q.any_of, 1)
  FROM artifact_words(p_query) AS q, artifact_passages p
  WHERE p.org = nullif(current_setting('agentos.organization', true), '') AND p.words @@ q.any_of
    AND EXISTS (
      SELECT FROM artifact_uses u WHERE u.org = p.org AND u.digest = p.digest
        AND (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
        AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until)
  ORDER BY 3 DESC, 4 DESC, p.digest, p.number LIMIT p_most
$$;

-- Forget uses of before then, and what is used no more; how many uses there were.
CREATE FUNCTION artifacts_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
DECLARE
  orgs text[];
  digests text[];
BEGIN
  WITH old AS MATERIALIZED (
    SELECT u.org, u.run_id, u.seq FROM artifact_uses u WHERE u.at < p_before LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM artifact_uses u USING old
    WHERE u.org = old.org AND u.run_id = old.run_id AND u.seq = old.seq RETURNING u.org, u.digest
  )
  SELECT array_agg(g.org), array_agg(g.digest) INTO orgs, digests FROM gone g;
  DELETE FROM artifacts a USING (SELECT DISTINCT * FROM unnest(orgs, digests) AS d (org, digest)) AS d
  WHERE a.org = d.org AND a.digest = d.digest
    AND NOT EXISTS (SELECT FROM artifact_uses u WHERE u.org = a.org AND u.digest = a.digest);
  RETURN coalesce(cardinality(digests), 0);
END $$;

REVOKE EXECUTE ON FUNCTION artifacts_forget, artifacts_by_words, artifacts_by_likeness, artifact_words,
  artifact_passages_add, artifact_passages_embed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION artifacts_forget TO agentos_system;
GRANT EXECUTE ON FUNCTION artifacts_by_words, artifacts_by_likeness, artifact_words, artifact_passages_add,
  artifact_passages_embed TO agentos_app;

-- It begins with everything that the outbox holds, which forgets nothing that it has not passed.
INSERT INTO outbox_cursors (consumer, txid, seq) VALUES ('artifacts', '0', 0) ON CONFLICT DO NOTHING;
