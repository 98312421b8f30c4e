-- The index of words knows whose each passage is (an array of one, which needs no extension): what other organizations
-- hold of a word is not read.
DROP INDEX artifact_passages_by_words;
CREATE INDEX artifact_passages_by_words ON artifact_passages USING gin ((ARRAY[org]), words) WITH (fastupdate = off);

-- As those of an agent: the newest of a kind are found without reading the rest.
CREATE INDEX artifact_uses_by_kind ON artifact_uses (org, kind, at DESC);

-- The passages of this organization that hold the words: first those that hold them just as they are asked, then those
-- that hold all of them, then those with any, the rarer the better. p_bound passages are looked at, as many of each word
-- (and of what is asked as it stands, and of all words), whatever the filters let through of them; where that was not all,
-- and there are filters, so are the passages of the p_newest newest uses that they let through. p_ranked of all of them are
-- ranked by how near the words stand to each other: so common words cost no more than that, and what holds a rare one is
-- never passed over. p_anywhere: the filters let all through. It runs as the owner, because row-level security would keep
-- the planner from the index of words; the organization is that of the transaction, as for every policy. It is planned with
-- its values, since the filters choose the index; OFFSET 0 lets it read nothing as a whole to spare itself the looking up.
DROP FUNCTION artifacts_by_words;
CREATE FUNCTION artifacts_by_words(p_query text, p_agent text, p_run text, p_kind text, p_since timestamptz,
                                   p_until timestamptz, p_anywhere boolean, p_bound integer, p_newest integer,
                                   p_ranked integer, p_most integer)
RETURNS TABLE (digest text, number integer, holds integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = agentos SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
  mine text := nullif(current_setting('agentos.organization', true), '');
BEGIN
  RETURN QUERY WITH q AS MATERIALIZED (
    SELECT w.every, w.any_of, phraseto_tsquery('simple', p_query) AS exact,
           CASE WHEN w.every::text LIKE '%!%' THEN ARRAY[w.every::text]
                ELSE string_to_array(w.any_of::text, ' | ') END AS terms
    FROM artifact_words(p_query) AS w
  ), asked AS MATERIALIZED (  -- 1: as it is asked, if nothing is left out, 2: all words, then each word
    SELECT 1 AS n, q.exact AS term FROM q WHERE q.every::text NOT LIKE '%!%' UNION ALL SELECT 2, q.every FROM q
    UNION ALL SELECT 2 + row_number() OVER (), t.term::tsquery FROM q, LATERAL (SELECT DISTINCT unnest(q.terms)) AS t (term)
  ), share AS MATERIALIZED (
    SELECT greatest(200, p_bound / count(*)) AS most FROM asked
  ), held AS MATERIALIZED (
    SELECT a.n, f.digest, f.number
    FROM asked a, LATERAL (
      SELECT p.digest, p.number FROM artifact_passages p WHERE ARRAY[p.org] @> ARRAY[mine] AND p.words @@ a.term
      LIMIT (SELECT share.most FROM share)
    ) AS f
  ), newest AS MATERIALIZED (  -- none where all that holds a word was looked at
    SELECT DISTINCT n.digest FROM (
      SELECT u.digest FROM artifact_uses u
      WHERE NOT p_anywhere AND (SELECT max(h.many) FROM (SELECT count(*) AS many FROM held GROUP BY held.n) AS h)
                               >= (SELECT share.most FROM share)
        AND u.org = mine AND (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
        AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until
      ORDER BY u.at DESC LIMIT p_newest
    ) AS n
  ), m AS MATERIALIZED (
    SELECT h.n, h.digest, h.number FROM held h
    WHERE p_anywhere OR EXISTS (
      SELECT FROM artifact_uses u WHERE u.org = mine AND u.digest = h.digest
        AND (p_agent = '' OR u.agent_id = p_agent) AND (p_run = '' OR u.run_id = p_run)
        AND (p_kind = '' OR u.kind = p_kind) AND u.at >= p_since AND u.at < p_until OFFSET 0)
    UNION SELECT a.n, f.digest, f.number
    FROM newest n, LATERAL (
      SELECT p.digest, p.number, p.words FROM artifact_passages p WHERE p.org = mine AND p.digest = n.digest OFFSET 0
    ) AS f, asked a
    WHERE f.words @@ a.term
  ), r AS MATERIALIZED (
    SELECT m.digest, m.number, max(CASE m.n WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE 0 END) AS holds,
           sum(ln(1 + p_bound / c.many)) FILTER (WHERE m.n > 2) AS weight
    FROM m JOIN (SELECT m.n, count(*)::float AS many FROM m GROUP BY m.n) AS c ON c.n = m.n
    GROUP BY m.digest, m.number
    ORDER BY 3 DESC, 4 DESC NULLS LAST, 1, 2 LIMIT p_ranked
  )
  SELECT r.digest, r.number, r.holds
  FROM q, r, LATERAL (
    SELECT p.words FROM artifact_passages p WHERE p.org = mine AND p.digest = r.digest AND p.number = r.number OFFSET 0
  ) AS p
  ORDER BY r.holds DESC, r.weight DESC NULLS LAST, ts_rank_cd(p.words, q.any_of, 1) DESC, r.digest, r.number LIMIT p_most;
END $$;
REVOKE EXECUTE ON FUNCTION artifacts_by_words FROM PUBLIC;
GRANT EXECUTE ON FUNCTION artifacts_by_words TO agentos_app;

-- As before (0031), by the index that knows the organization.
CREATE OR REPLACE FUNCTION artifact_spellings(p_words text[]) RETURNS TABLE (said text, meant text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  WITH asked AS MATERIALIZED (
    SELECT w.said, artifact_cuts(w.said) AS cuts, nullif(current_setting('agentos.organization', true), '') AS org
    FROM (SELECT DISTINCT unnest(p_words)) AS w (said) WHERE artifact_is_word(w.said)
  ), unheld AS MATERIALIZED (
    SELECT a.* FROM asked a WHERE NOT EXISTS (
      SELECT FROM artifact_passages p WHERE ARRAY[p.org] @> ARRAY[a.org] AND p.words @@ plainto_tsquery('simple', a.said)
      OFFSET 0)
  ), held AS MATERIALIZED (
    SELECT u.said, v.word, (
      SELECT count(*) FROM (
        SELECT FROM artifact_passages p WHERE ARRAY[p.org] @> ARRAY[u.org] AND p.words @@ plainto_tsquery('simple', v.word)
        LIMIT 500
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
