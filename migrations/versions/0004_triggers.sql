CREATE TABLE triggers (
  org          text NOT NULL REFERENCES organizations,
  id           text NOT NULL,
  name         text NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('schedule', 'webhook', 'event')),
  agent_id     text NOT NULL,            -- by id only: the deployment is looked up when the run is admitted
  environment  text NOT NULL,
  spec         jsonb NOT NULL,           -- of its kind: cron and zone; secret's name; patterns
  input        jsonb NOT NULL,           -- the input's fields that are always the same
  take         jsonb NOT NULL,           -- field → JMESPath into what came
  overlap      text NOT NULL CHECK (overlap IN ('allow', 'queue', 'skip', 'replace')),
  most_open    integer NOT NULL CHECK (most_open BETWEEN 1 AND 1000),
  priority     integer NOT NULL,
  is_enabled   boolean NOT NULL,
  hook_hash    bytea UNIQUE,             -- SHA-256 of the webhook's address
  next_at      timestamptz,              -- of a schedule: when it fires next
  changes      integer NOT NULL DEFAULT 1,
  created_by   text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org, id),
  UNIQUE (org, name)
);
CREATE INDEX triggers_due ON triggers (next_at) WHERE is_enabled AND next_at IS NOT NULL;
CREATE INDEX triggers_for_events ON triggers (org, id) WHERE kind = 'event' AND is_enabled;

CREATE TABLE firings (
  org         text NOT NULL,
  id          text NOT NULL,
  trigger_id  text NOT NULL,
  dedup       text NOT NULL,             -- the minute, the webhook's id, the event's source and id: fires once
  due_at      timestamptz NOT NULL,      -- when it should have fired
  fired_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  input       bytea NOT NULL,
  request_id  text NOT NULL,
  state       text NOT NULL CHECK (state IN ('fired', 'queued', 'admitted', 'ended', 'skipped', 'withdrawn', 'refused')),
  reason      text NOT NULL DEFAULT '',
  run_id      text,
  PRIMARY KEY (org, id),
  UNIQUE (org, trigger_id, dedup),
  FOREIGN KEY (org, trigger_id) REFERENCES triggers (org, id) ON DELETE CASCADE
);
CREATE INDEX firings_open ON firings (org, trigger_id, id) WHERE state IN ('fired', 'queued', 'admitted');

ALTER TABLE runs ADD COLUMN firing_id text;

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['triggers', 'firings'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON triggers, firings TO agentos_app;
CREATE POLICY system ON triggers FOR SELECT TO agentos_owner USING (true);

-- The webhook with this address: its organization and trigger, or no row.
CREATE FUNCTION webhook_trigger(p_hash bytea) RETURNS TABLE (org text, trigger_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT t.org, t.id FROM triggers t WHERE t.hook_hash = p_hash
$$;

-- Schedules by their next moment, and how long until then; negative when it has come. p_at NULL: the time that it is here,
-- so that clocks of several machines that differ fire nothing early.
CREATE FUNCTION schedules_due(p_at timestamptz, p_most integer)
RETURNS TABLE (org text, trigger_id text, seconds double precision, at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT t.org, t.id, extract(epoch FROM t.next_at - n.at)::double precision, n.at
  FROM triggers t, (SELECT coalesce(p_at, clock_timestamp()) AS at) n
  WHERE t.is_enabled AND t.next_at IS NOT NULL ORDER BY t.next_at LIMIT p_most
$$;

REVOKE EXECUTE ON FUNCTION webhook_trigger, schedules_due FROM PUBLIC;
GRANT EXECUTE ON FUNCTION webhook_trigger, schedules_due TO agentos_system;
