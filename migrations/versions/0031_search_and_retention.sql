-- As before (0022), but the vector is read from its text once. It was read anew for each passage as soon as PostgreSQL
-- planned without its value, which is from the sixth search of a connection on. It is planned with the values each time:
-- without them ten thousand uses are taken for one.
DO $do$
DECLARE
  there text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                 WHERE e.extname = 'vector');
BEGIN
  EXECUTE format($make$
    CREATE OR REPLACE FUNCTION artifacts_by_likeness(p_vector text, p_embedder text, p_agent text, p_run text,
                                                     p_kind text, p_since timestamptz, p_until timestamptz,
                                                     p_floor double precision, p_bound integer, p_most integer)
    RETURNS TABLE (digest text, number integer, likeness double precision)
    LANGUAGE sql STABLE SET search_path = agentos, %1$I SET plan_cache_mode = force_custom_plan AS $$
      WITH q AS MATERIALIZED (
        SELECT v, vector_dims(v) AS dims FROM (SELECT p_vector::halfvec AS v) AS said
      ), s AS MATERIALIZED (
        SELECT p.digest, p.number, CASE WHEN vector_dims(p.embedding) = (SELECT q.dims FROM q)
                                        THEN 1 - (p.embedding <=> (SELECT q.v FROM q)) END AS likeness
        FROM (
          SELECT DISTINCT n.org, n.digest FROM (
            SELECT u.org, u.digest FROM artifact_uses u
            WHERE (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
              AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until
            ORDER BY u.at DESC LIMIT p_bound
          ) AS n
        ) AS d
        JOIN artifact_passages p ON p.org = d.org AND p.digest = d.digest AND p.embedder = p_embedder
      )
      SELECT s.digest, s.number, s.likeness FROM s
      WHERE s.likeness >= p_floor AND s.likeness <> 'NaN'  -- of a text without a word
      ORDER BY s.likeness DESC, s.digest, s.number LIMIT p_most
    $$;
  $make$, there);
END $do$;

-- What was kept lately is looked up like the rest: a list of it, read through by each search, cost half of their time.
ALTER INDEX artifact_passages_by_words SET (fastupdate = off);
SELECT gin_clean_pending_list('artifact_passages_by_words');

-- The passages of this organization that hold the words: first those that hold them just as they are asked, then those
-- that hold all of them, then those with any, the rarer the better. Of each word so many passages are looked at as share
-- p_bound among the words, and p_ranked of all of them are ranked by how near the words stand to each other: so common
-- words cost no more than that, and what holds a rare one is never passed over. p_anywhere: the filters let all through.
-- It runs as the owner, because row-level security would keep the planner from the index of words; the organization is
-- that of the transaction, as for every policy.
DROP FUNCTION artifacts_by_words;
CREATE FUNCTION artifacts_by_words(p_query text, p_agent text, p_run text, p_kind text, p_since timestamptz,
                                   p_until timestamptz, p_anywhere boolean, p_bound integer, p_ranked integer,
                                   p_most integer)
RETURNS TABLE (digest text, number integer, holds integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  WITH q AS MATERIALIZED (
    SELECT w.every, w.any_of, phraseto_tsquery('simple', p_query) AS exact,
           CASE WHEN w.every::text LIKE '%!%' THEN ARRAY[w.every::text]
                ELSE string_to_array(w.any_of::text, ' | ') END AS terms
    FROM artifact_words(p_query) AS w
  ), asked AS MATERIALIZED (  -- 1: as it is asked, 2: all words, then each word
    SELECT 1 AS n, q.exact AS term FROM q UNION ALL SELECT 2, q.every FROM q
    UNION ALL SELECT 2 + row_number() OVER (), t.term::tsquery FROM q, LATERAL (SELECT DISTINCT unnest(q.terms)) AS t (term)
  ), m AS MATERIALIZED (
    SELECT a.n, f.digest, f.number
    FROM asked a, LATERAL (
      SELECT p.digest, p.number FROM artifact_passages p
      WHERE p.org = nullif(current_setting('agentos.organization', true), '') AND p.words @@ a.term
        AND (p_anywhere OR EXISTS (
          SELECT FROM artifact_uses u WHERE u.org = p.org AND u.digest = p.digest
            AND (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
            AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until))
      LIMIT (SELECT greatest(200, p_bound / greatest(1, cardinality(q.terms))) FROM q)
    ) AS f
  ), r AS MATERIALIZED (
    SELECT m.digest, m.number, max(CASE m.n WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE 0 END) AS holds,
           sum(ln(1 + p_bound / c.many)) FILTER (WHERE m.n > 2) AS weight
    FROM m JOIN (SELECT m.n, count(*)::float AS many FROM m GROUP BY m.n) AS c ON c.n = m.n
    GROUP BY m.digest, m.number
    ORDER BY 3 DESC, 4 DESC NULLS LAST, 1, 2 LIMIT p_ranked
  )
  SELECT r.digest, r.number, r.holds
  FROM q, r JOIN artifact_passages p ON p.org = nullif(current_setting('agentos.organization', true), '')
    AND p.digest = r.digest AND p.number = r.number
  ORDER BY r.holds DESC, r.weight DESC NULLS LAST, ts_rank_cd(p.words, q.any_of, 1) DESC, r.digest, r.number LIMIT p_most
$$;
REVOKE EXECUTE ON FUNCTION artifacts_by_words FROM PUBLIC;
GRANT EXECUTE ON FUNCTION artifacts_by_words TO agentos_app;

-- What was counted needs to be known only as long as its fact may be delivered again.
CREATE INDEX usage_counted_by_age ON usage_counted (counted_at);
CREATE POLICY system ON usage_counted TO agentos_owner USING (true);
CREATE FUNCTION usage_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT c.org, c.subject FROM usage_counted c WHERE c.counted_at < p_before LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM usage_counted c USING old WHERE c.org = old.org AND c.subject = old.subject RETURNING 1
  )
  SELECT count(*) FROM gone
$$;
REVOKE EXECUTE ON FUNCTION usage_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION usage_forget TO agentos_system;

-- The words of an organization's passages, with each word's cuts: itself, and it without any one of its letters. Two words
-- that share a cut are a slip of the pen apart: one letter is taken out and one is put in at most, wherever.
CREATE TABLE artifact_vocabulary (
  org   text NOT NULL REFERENCES organizations,
  word  text NOT NULL,
  cuts  text[] NOT NULL,
  seen  date NOT NULL,                 -- the last day that something new held it
  PRIMARY KEY (org, word)
);
CREATE INDEX artifact_vocabulary_by_cuts ON artifact_vocabulary USING gin (cuts) WITH (fastupdate = off);
CREATE INDEX artifact_vocabulary_by_age ON artifact_vocabulary (seen);
ALTER TABLE artifact_vocabulary ENABLE ROW LEVEL SECURITY;
ALTER TABLE artifact_vocabulary FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON artifact_vocabulary TO agentos_app
  USING (org = nullif(current_setting('agentos.organization', true), ''))
  WITH CHECK (org = nullif(current_setting('agentos.organization', true), ''));
CREATE POLICY system ON artifact_vocabulary TO agentos_owner USING (true);
GRANT SELECT, INSERT, UPDATE ON artifact_vocabulary TO agentos_app;

CREATE FUNCTION artifact_cuts(p_word text) RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = agentos AS $$
  SELECT array_agg(DISTINCT overlay(p_word PLACING '' FROM n FOR 1)) || p_word FROM generate_series(1, length(p_word)) AS n
$$;

-- Ids, numbers and short words are not corrected.
CREATE FUNCTION artifact_is_word(p_word text) RETURNS boolean LANGUAGE sql IMMUTABLE SET search_path = agentos AS $$
  SELECT length(p_word) BETWEEN 4 AND 24 AND p_word ~ '^[[:alpha:]]+$'
$$;

CREATE FUNCTION artifact_vocabulary_add(p_org text, p_texts text[]) RETURNS void
LANGUAGE sql SET search_path = agentos AS $$
  INSERT INTO artifact_vocabulary (org, word, cuts, seen)
  SELECT p_org, l.word, artifact_cuts(l.word), current_date
  FROM (SELECT DISTINCT w.lexeme AS word FROM unnest(p_texts) AS t (said), unnest(to_tsvector('simple', t.said)) AS w) AS l
  WHERE artifact_is_word(l.word) AND NOT EXISTS (
    SELECT FROM artifact_vocabulary v WHERE v.org = p_org AND v.word = l.word AND v.seen >= current_date)
  ORDER BY l.word ON CONFLICT (org, word) DO UPDATE SET seen = greatest(artifact_vocabulary.seen, excluded.seen)
$$;

INSERT INTO artifact_vocabulary (org, word, cuts, seen)
SELECT l.org, l.word, artifact_cuts(l.word), current_date
FROM (SELECT DISTINCT p.org, w.lexeme AS word FROM artifact_passages p, unnest(p.words) AS w) AS l
WHERE artifact_is_word(l.word);

-- Of each word that no passage of this organization holds, the word a slip of the pen away that most hold: one of the same
-- letters first. As the owner, for the indexes' sake; the organization is that of the transaction.
CREATE FUNCTION artifact_spellings(p_words text[]) RETURNS TABLE (said text, meant text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  WITH asked AS MATERIALIZED (
    SELECT w.said, artifact_cuts(w.said) AS cuts, nullif(current_setting('agentos.organization', true), '') AS org
    FROM (SELECT DISTINCT unnest(p_words)) AS w (said) WHERE artifact_is_word(w.said)
  ), unheld AS MATERIALIZED (
    SELECT a.* FROM asked a WHERE NOT EXISTS (
      SELECT FROM artifact_passages p WHERE p.org = a.org AND p.words @@ plainto_tsquery('simple', a.said))
  ), held AS MATERIALIZED (
    SELECT u.said, v.word, (
      SELECT count(*) FROM (
        SELECT FROM artifact_passages p WHERE p.org = u.org AND p.words @@ plainto_tsquery('simple', v.word) LIMIT 500
      ) AS known
    ) AS many,
    (SELECT string_agg(c, '' ORDER BY c) FROM string_to_table(v.word, NULL) AS c)
      = (SELECT string_agg(c, '' ORDER BY c) FROM string_to_table(u.said, NULL) AS c) AS is_same
    FROM unheld u, LATERAL (  -- by the index of cuts alone, which says more than the organization does
      SELECT o.org, o.word FROM artifact_vocabulary o WHERE o.cuts && u.cuts OFFSET 0
    ) AS v WHERE v.org = u.org
  )
  SELECT DISTINCT ON (h.said) h.said, h.word FROM held h WHERE h.many > 0
  ORDER BY h.said, h.is_same DESC, h.many DESC, h.word
$$;

CREATE FUNCTION artifact_vocabulary_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT v.org, v.word FROM artifact_vocabulary v WHERE v.seen < p_before::date LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM artifact_vocabulary v USING old WHERE v.org = old.org AND v.word = old.word RETURNING 1
  )
  SELECT count(*) FROM gone
$$;
REVOKE EXECUTE ON FUNCTION artifact_cuts, artifact_is_word, artifact_vocabulary_add, artifact_spellings,
  artifact_vocabulary_forget FROM PUBLIC;
GRANT EXECUTE ON FUNCTION artifact_cuts, artifact_is_word, artifact_vocabulary_add, artifact_spellings TO agentos_app;
GRANT EXECUTE ON FUNCTION artifact_vocabulary_forget TO agentos_system;
