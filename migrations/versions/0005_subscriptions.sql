-- Who is told of which facts. The secret that signs is named, never kept.
CREATE TABLE subscriptions (
  org         text NOT NULL REFERENCES organizations,
  id          text NOT NULL,
  name        text NOT NULL,
  url         text NOT NULL,
  wants       text[] NOT NULL CHECK (cardinality(wants) > 0),   -- names of facts, or globs of them
  secret      text NOT NULL CHECK (secret LIKE 'secret://%'),
  enabled     boolean NOT NULL,
  reason      text NOT NULL DEFAULT '',  -- why it is not enabled, where the platform did it
  created_by  text NOT NULL,
  -- Facts from before are not sent. What has this position or a later one began after it, whatever the clock does; the
  -- time tells it also after a logical restore into a new cluster, where positions begin again.
  since       xid8 NOT NULL DEFAULT pg_snapshot_xmax(pg_current_snapshot()),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, id),
  UNIQUE (org, name)
);

CREATE TABLE deliveries (
  org              text NOT NULL,
  id               text NOT NULL,        -- the webhook-id: the same on every try
  subscription_id  text NOT NULL,
  event_id         text NOT NULL,        -- the fact's position on the outbox
  fact             text NOT NULL,
  key              text NOT NULL,
  event            text NOT NULL,        -- the CloudEvent: the very text that is signed and sent, on every try
  state            text NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
  due_at           timestamptz NOT NULL, -- while it is claimed: when the lease runs out
  claim            text,                 -- of the worker that is sending it
  tries            integer NOT NULL DEFAULT 0,
  first_try_at     timestamptz,
  last_try_at      timestamptz,
  status           integer,              -- what the receiver answered last
  reason           text NOT NULL DEFAULT '',
  said             text NOT NULL DEFAULT '',
  made_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at         timestamptz,
  PRIMARY KEY (org, id),
  UNIQUE (org, subscription_id, event_id),
  FOREIGN KEY (org, subscription_id) REFERENCES subscriptions (org, id)
);
CREATE INDEX deliveries_listed ON deliveries (org, subscription_id, id);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_owed ON deliveries (org, subscription_id, due_at) WHERE state = 'pending';
CREATE INDEX deliveries_under_way ON deliveries (org, subscription_id) WHERE state = 'pending' AND claim IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (org) WHERE state = 'dead';
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE state <> 'pending';

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['subscriptions', 'deliveries'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
    EXECUTE format('CREATE POLICY system ON %I TO agentos_owner USING (true)', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON subscriptions, deliveries TO agentos_app;

-- Claim deliveries that are due, at most p_each under way for one subscription however many workers claim: the lock on
-- the subscription makes the count exact, for each statement below sees what was committed before it. A claim is a lease
-- of so many seconds; when it runs out the delivery is due again. p_at is for tests: the clock is the database's.
CREATE FUNCTION deliveries_claim(
  p_claim text, p_most integer, p_each integer, p_seconds double precision, p_at timestamptz
)
RETURNS TABLE (org text, id text, subscription_id text, url text, secret text, event_id text, fact text, event text,
               tries integer, first_try_at timestamptz, claimed_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = agentos AS $$
#variable_conflict use_column
DECLARE
  moment timestamptz := coalesce(p_at, clock_timestamp());
  left_over integer := p_most;
  taken integer;
  one record;
BEGIN
  IF NOT EXISTS (SELECT FROM deliveries d WHERE d.state = 'pending' AND d.due_at <= moment) THEN
    RETURN;
  END IF;
  FOR one IN
    SELECT s.org, s.id, s.url, s.secret FROM subscriptions s
    WHERE s.enabled AND EXISTS (SELECT FROM deliveries d WHERE d.org = s.org AND d.subscription_id = s.id
                                AND d.state = 'pending' AND d.due_at <= moment)
    ORDER BY random()
    FOR NO KEY UPDATE OF s SKIP LOCKED
  LOOP
    EXIT WHEN left_over <= 0;
    RETURN QUERY
      WITH due AS MATERIALIZED (  -- once: as a part of the update's plan it could be read again, past its limit
        SELECT o.id FROM deliveries o
        WHERE o.org = one.org AND o.subscription_id = one.id AND o.state = 'pending' AND o.due_at <= moment
        ORDER BY o.due_at, o.id
        LIMIT least(left_over, greatest(0, p_each - (
          SELECT count(*) FROM deliveries u
          WHERE u.org = one.org AND u.subscription_id = one.id AND u.state = 'pending' AND u.claim IS NOT NULL
            AND u.due_at > moment)))
        FOR UPDATE SKIP LOCKED
      )
      UPDATE deliveries d
      SET claim = p_claim, due_at = moment + make_interval(secs => p_seconds),
          first_try_at = coalesce(d.first_try_at, moment), last_try_at = moment
      FROM due WHERE d.org = one.org AND d.id = due.id
      RETURNING d.org, d.id, d.subscription_id, one.url, one.secret, d.event_id, d.fact, d.event,
                d.tries, d.first_try_at, moment;
    GET DIAGNOSTICS taken = ROW_COUNT;
    left_over := left_over - taken;
  END LOOP;
END $$;

-- Forget deliveries that ended before this; how many there were.
CREATE FUNCTION deliveries_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT o.org, o.id FROM deliveries o WHERE o.state <> 'pending' AND o.ended_at < p_before
    LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (DELETE FROM deliveries d USING old WHERE d.org = old.org AND d.id = old.id RETURNING 1)
  SELECT count(*) FROM gone
$$;

-- Deliveries that are owed and those that were given up, for the gauges.
CREATE FUNCTION deliveries_counted() RETURNS TABLE (org text, state text, value bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT d.org, d.state, count(*) FROM deliveries d WHERE d.state = 'pending' GROUP BY d.org, d.state
  UNION ALL
  SELECT d.org, d.state, count(*) FROM deliveries d WHERE d.state = 'dead' GROUP BY d.org, d.state
$$;

REVOKE EXECUTE ON FUNCTION deliveries_claim, deliveries_forget, deliveries_counted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION deliveries_claim, deliveries_forget, deliveries_counted TO agentos_system;

-- Nobody has subscribed to what happened before: the consumer begins here, and not with all of the outbox.
INSERT INTO outbox_cursors (consumer, txid, seq)
VALUES ('subscriptions', pg_snapshot_xmin(pg_current_snapshot()), 0);
