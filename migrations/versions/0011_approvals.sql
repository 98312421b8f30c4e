-- A step may be asked about again, when policy becomes stricter after a yes.
ALTER TABLE approvals ADD COLUMN round smallint NOT NULL DEFAULT 1;
ALTER TABLE approvals DROP CONSTRAINT approvals_org_run_id_step_key;
ALTER TABLE approvals ADD CONSTRAINT approvals_of_step UNIQUE (org, run_id, step, round);

ALTER TABLE approvals DROP CONSTRAINT approvals_needed_check;
ALTER TABLE approvals ADD CONSTRAINT approvals_needed_check CHECK (needed BETWEEN 1 AND 50);

ALTER TABLE approvals
  ADD COLUMN agent_id       text,
  ADD COLUMN version        text,                           -- of the agent
  ADD COLUMN starters       text[],                         -- whoever started it in some way: may not approve it
  ADD COLUMN skill_digest   text NOT NULL DEFAULT '',
  ADD COLUMN reversibility  text NOT NULL DEFAULT 'unknown',
  ADD COLUMN rule           text NOT NULL DEFAULT 'tier_matrix',
  ADD COLUMN policy_hash    text NOT NULL DEFAULT '',       -- of the policy that asked
  ADD COLUMN bound          text,                           -- NULL: of an earlier release, bound to its arguments only
  ADD COLUMN plan           jsonb,                          -- stages, ladder, times, and how it ends
  ADD COLUMN stage          smallint NOT NULL DEFAULT 0,
  ADD COLUMN reminded       boolean NOT NULL DEFAULT false,
  ADD COLUMN handovers      jsonb NOT NULL DEFAULT '[]',
  ADD COLUMN reason         text NOT NULL DEFAULT '',
  ADD COLUMN decided_by     text NOT NULL DEFAULT '',
  ADD COLUMN next_at        timestamptz;                    -- when the clock has to do something with it

-- What an earlier release asked goes on as it was asked: any people, until its time is over.
ALTER TABLE approvals NO FORCE ROW LEVEL SECURITY;
UPDATE approvals a SET
  agent_id = r.agent_id, version = r.version, starters = ARRAY[a.requested_by], next_at = a.expires_at,
  plan = jsonb_build_object('stages', jsonb_build_array(jsonb_build_object('approvers', '[]'::jsonb, 'needed', a.needed)),
                            'ladder', '[]'::jsonb, 'after', NULL, 'on_timeout', 'deny')
FROM runs r WHERE r.org = a.org AND r.id = a.run_id;
ALTER TABLE approvals FORCE ROW LEVEL SECURITY;

ALTER TABLE approvals
  ALTER COLUMN agent_id SET NOT NULL, ALTER COLUMN version SET NOT NULL, ALTER COLUMN starters SET NOT NULL,
  ALTER COLUMN plan SET NOT NULL, ALTER COLUMN next_at SET NOT NULL,
  ALTER COLUMN skill_digest DROP DEFAULT, ALTER COLUMN reversibility DROP DEFAULT, ALTER COLUMN rule DROP DEFAULT,
  ALTER COLUMN policy_hash DROP DEFAULT;

CREATE INDEX approvals_due ON approvals (next_at) WHERE status = 'pending';
CREATE INDEX approvals_similar ON approvals (org, agent_id, skill, id);

ALTER TABLE approval_answers
  ADD COLUMN stage    smallint NOT NULL DEFAULT 0,
  ADD COLUMN channel  text NOT NULL DEFAULT 'api' CHECK (channel IN ('api', 'link', 'slack', 'inbox'));

-- Whom an organization asks and by when; an organization without a row has the defaults.
CREATE TABLE approval_routing (
  org         text PRIMARY KEY REFERENCES organizations,
  body        jsonb NOT NULL,
  changed_by  text NOT NULL,
  changed_at  timestamptz NOT NULL
);

-- Links that one person answers one approval with, once. The link itself is signed and is not kept.
CREATE TABLE approval_links (
  org          text NOT NULL,
  id           text NOT NULL,
  approval_id  text NOT NULL,
  handle       text NOT NULL,
  made_at      timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  used_at      timestamptz,
  PRIMARY KEY (org, id),
  FOREIGN KEY (org, approval_id) REFERENCES approvals (org, id)
);

DO $$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY ARRAY['approval_routing', 'approval_links'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', one);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', one);
    EXECUTE format('CREATE POLICY own ON %I TO agentos_app '
                   'USING (org = nullif(current_setting(''agentos.organization'', true), '''')) '
                   'WITH CHECK (org = nullif(current_setting(''agentos.organization'', true), ''''))', one);
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON approval_routing, approval_links TO agentos_app;

-- Approvals by when the clock has to do something with them, and how long until then; negative when it has come.
-- p_at NULL: the time that it is here, so that clocks of several machines that differ escalate nothing early.
CREATE FUNCTION approvals_due(p_at timestamptz, p_most integer)
RETURNS TABLE (org text, approval_id text, seconds double precision, at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = agentos AS $$
  SELECT a.org, a.id, extract(epoch FROM a.next_at - n.at)::double precision, n.at
  FROM approvals a, (SELECT coalesce(p_at, clock_timestamp()) AS at) n
  WHERE a.status = 'pending' ORDER BY a.next_at LIMIT p_most
$$;

REVOKE EXECUTE ON FUNCTION approvals_due FROM PUBLIC;
GRANT EXECUTE ON FUNCTION approvals_due TO agentos_system;
