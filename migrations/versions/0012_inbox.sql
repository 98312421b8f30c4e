CREATE TABLE inbox_threads (
  org         text NOT NULL REFERENCES organizations,
  id          text NOT NULL,
  number      integer NOT NULL,          -- what people call it by
  about       text NOT NULL DEFAULT '',  -- an approval or a run, by id only; empty for talk
  title       text NOT NULL,
  opened_by   text NOT NULL,
  opened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at   timestamptz,
  alerted_at  timestamptz,               -- of the last alert in it
  PRIMARY KEY (org, id),
  UNIQUE (org, number)
);
CREATE UNIQUE INDEX inbox_threads_about ON inbox_threads (org, about) WHERE about <> '';

CREATE TABLE inbox_messages (
  org         text NOT NULL,
  id          text NOT NULL,
  thread_id   text NOT NULL,
  kind        text NOT NULL CHECK (kind IN ('message', 'answer', 'outcome', 'notice', 'alert')),
  channel     text NOT NULL CHECK (channel IN ('api', 'email', 'slack', 'platform')),
  author      text NOT NULL,
  person_id   text,
  body        text NOT NULL,
  about       text NOT NULL DEFAULT '',  -- what an answer answers
  approved    boolean CHECK ((approved IS NULL) = (kind <> 'answer')),
  dedup       text,                      -- what came twice is kept once
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  settled_at  timestamptz,               -- when an answer had its outcome
  PRIMARY KEY (org, id),
  UNIQUE (org, dedup),
  FOREIGN KEY (org, thread_id) REFERENCES inbox_threads (org, id),
  FOREIGN KEY (org, person_id) REFERENCES people (org, id)
);
CREATE INDEX inbox_messages_listed ON inbox_messages (org, thread_id, id);

-- Where people are reached, and in Slack also as whom they are recognised: there one user stands for one person.
CREATE TABLE people_addresses (
  org        text NOT NULL,
  person_id  text NOT NULL,
  channel    text NOT NULL CHECK (channel IN ('email', 'slack')),
  address    text NOT NULL,
  PRIMARY KEY (org, person_id, channel),
  FOREIGN KEY (org, person_id) REFERENCES people (org, id)
);
CREATE UNIQUE INDEX people_addresses_slack ON people_addresses (org, address) WHERE channel = 'slack';

CREATE TABLE slack_workspaces (
  org             text NOT NULL PRIMARY KEY REFERENCES organizations,
  team_id         text NOT NULL UNIQUE,  -- a workspace answers for one organization
  signing_secret  text NOT NULL CHECK (signing_secret LIKE 'secret://%'),
  token           text NOT NULL CHECK (token LIKE 'secret://%'),
  shows           boolean NOT NULL,      -- whether arguments may be shown there
  connected_by    text NOT NULL,
  connected_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each message to one person by one channel. The row's id goes with every try. What is said is not kept: it
-- is put together when it is sent, out of what holds then.
CREATE TABLE notifications (
  org           text NOT NULL REFERENCES organizations,
  id            text NOT NULL,
  cause         text NOT NULL,           -- the fact's position on the outbox
  kind          text NOT NULL,
  about         text NOT NULL,           -- an approval, by id
  thread_id     text NOT NULL,
  message_id    text NOT NULL DEFAULT '',  -- of the answer that it tells the outcome of
  person_id     text NOT NULL,
  channel       text NOT NULL CHECK (channel IN ('console', 'email', 'slack')),
  state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'moot', 'dead')),
  due_at        timestamptz NOT NULL DEFAULT clock_timestamp(),  -- while it is claimed: when the lease runs out
  claim         text,                    -- of the worker that is sending it
  tries         integer NOT NULL DEFAULT 0,
  first_try_at  timestamptz,
  last_try_at   timestamptz,
  reason        text NOT NULL DEFAULT '',
  said          text NOT NULL DEFAULT '',
  receipt       text NOT NULL DEFAULT '',  -- what the channel calls the message that it took
  made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at      timestamptz,
  PRIMARY KEY (org, id),
  UNIQUE (org, cause, kind, person_id, channel),
  FOREIGN KEY (org, person_id) REFERENCES people (org, id),
  FOREIGN KEY (org, thread_id) REFERENCES inbox_threads (org, id)
);
CREATE INDEX notifications_due ON notifications (due_at) WHERE state = 'pending';
CREATE INDEX notifications_owed ON notifications (org, due_at) WHERE state = 'pending';
CREATE INDEX notifications_about ON notifications (org, about);
CREATE INDEX notifications_dead ON notifications (org) WHERE state = 'dead';
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE state <> 'pending';

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['inbox_threads', 'inbox_messages', 'people_addresses', 'slack_workspaces',
                             'notifications'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON inbox_threads, inbox_messages, notifications TO agentos_app;
GRANT SELECT, INSERT, DELETE ON people_addresses, slack_workspaces TO agentos_app;
CREATE POLICY system ON slack_workspaces FOR SELECT TO agentos_owner USING (true);
CREATE POLICY system ON notifications TO agentos_owner USING (true);

-- The connected workspace of this id, whosever it is, or no row.
CREATE FUNCTION slack_workspace(p_team_id text) RETURNS SETOF slack_workspaces
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT * FROM slack_workspaces w WHERE w.team_id = p_team_id
$$;

-- Claim messages that are due, at most p_each under way for one organization, so that one whose mail server hangs does
-- not delay the others'. Workers that claim at the same moment may pass that bound, each by as many. A claim is a lease
-- of so many seconds; when it runs out the message is due again. p_at is for tests: the clock is the database's.
CREATE FUNCTION notifications_claim(
  p_claim text, p_most integer, p_each integer, p_seconds double precision, p_at timestamptz
)
RETURNS TABLE (org text, id text, kind text, about text, thread_id text, message_id text, person_id text, channel text,
               tries integer, first_try_at timestamptz, claimed_at timestamptz)
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH moment AS (SELECT coalesce(p_at, clock_timestamp()) AS at),
  due AS MATERIALIZED (  -- once: as a part of the update's plan it could be read again, past its limit
    SELECT one.org, one.id
    FROM (SELECT DISTINCT n.org FROM notifications n, moment WHERE n.state = 'pending' AND n.due_at <= moment.at) whose
    CROSS JOIN LATERAL (
      SELECT o.org, o.id FROM notifications o, moment
      WHERE o.org = whose.org AND o.state = 'pending' AND o.due_at <= moment.at
      ORDER BY o.due_at, o.id
      LIMIT greatest(0, p_each - (SELECT count(*) FROM notifications u, moment
                                  WHERE u.org = whose.org AND u.state = 'pending' AND u.claim IS NOT NULL
                                    AND u.due_at > moment.at))
      FOR UPDATE OF o SKIP LOCKED
    ) one
    LIMIT p_most
  )
  UPDATE notifications n
  SET claim = p_claim, due_at = moment.at + make_interval(secs => p_seconds),
      first_try_at = coalesce(n.first_try_at, moment.at), last_try_at = moment.at
  FROM due, moment WHERE n.org = due.org AND n.id = due.id
  RETURNING n.org, n.id, n.kind, n.about, n.thread_id, n.message_id, n.person_id, n.channel, n.tries, n.first_try_at,
            moment.at
$$;

-- Forget messages that ended before this; how many there were.
CREATE FUNCTION notifications_forget(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = agentos AS $$
  WITH old AS MATERIALIZED (
    SELECT o.org, o.id FROM notifications o WHERE o.state <> 'pending' AND o.ended_at < p_before
    LIMIT p_most FOR UPDATE SKIP LOCKED
  ), gone AS (DELETE FROM notifications n USING old WHERE n.org = old.org AND n.id = old.id RETURNING 1)
  SELECT count(*) FROM gone
$$;

-- Messages that are yet to be sent and those that were given up, for the gauges.
CREATE FUNCTION notifications_counted() RETURNS TABLE (org text, state text, value bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT n.org, n.state, count(*) FROM notifications n WHERE n.state = 'pending' GROUP BY n.org, n.state
  UNION ALL
  SELECT n.org, n.state, count(*) FROM notifications n WHERE n.state = 'dead' GROUP BY n.org, n.state
$$;

REVOKE EXECUTE ON FUNCTION slack_workspace, notifications_claim, notifications_forget, notifications_counted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slack_workspace, notifications_claim, notifications_forget, notifications_counted
  TO agentos_system;

-- Nobody is told of what happened before there were messages: the consumer begins here, and not with all of the outbox.
INSERT INTO outbox_cursors (consumer, txid, seq)
VALUES ('notifications', pg_snapshot_xmin(pg_current_snapshot()), 0);
