-- What the edge writes: registrations, carrier states, live calls, records (docs/database.md).

CREATE TABLE sip_edge.edges (
    instance     uuid PRIMARY KEY,
    name         text NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    lost         boolean NOT NULL DEFAULT false
);
CREATE INDEX edges_by_name ON sip_edge.edges (name);

CREATE TABLE sip_edge.registrations (
    aor_kind      text NOT NULL CHECK (aor_kind IN ('seat', 'trunk')),
    aor           text NOT NULL,
    contact_uri   text NOT NULL,
    account       text NOT NULL,
    instance_id   text,
    reg_id        integer,
    call_id       text NOT NULL,
    cseq          bigint NOT NULL,
    q             real NOT NULL DEFAULT 1,
    expires_at    timestamptz NOT NULL,
    registered_at timestamptz NOT NULL,
    user_agent    text,
    transport     text NOT NULL,
    local_host    text,
    local_port    integer,
    remote_host   text,
    remote_port   integer,
    path          text[] NOT NULL DEFAULT '{}',
    edge          text NOT NULL,
    PRIMARY KEY (aor_kind, aor, contact_uri)
);
CREATE INDEX registrations_of_account ON sip_edge.registrations (account);
CREATE INDEX registrations_by_expiry ON sip_edge.registrations (expires_at);
CREATE INDEX registrations_of_edge ON sip_edge.registrations (edge);

CREATE TABLE sip_edge.carrier_states (
    carrier          text NOT NULL,
    edge             text NOT NULL,
    state            text NOT NULL,
    since            timestamptz NOT NULL,
    detail           text,
    registered_until timestamptz,
    remote           text,
    last_status      integer,
    PRIMARY KEY (carrier, edge)
);

CREATE TABLE sip_edge.live_calls (
    id          text PRIMARY KEY,
    instance    uuid NOT NULL,
    edge        text NOT NULL,
    state       text NOT NULL,
    started_at  timestamptz NOT NULL,
    answered_at timestamptz,
    direction   text NOT NULL,
    source_kind text NOT NULL,
    source_name text NOT NULL,
    account     text,
    caller      text,
    called      text,
    target_kind text,
    target_name text
);
CREATE INDEX live_calls_of_instance ON sip_edge.live_calls (instance);
CREATE INDEX live_calls_of_account ON sip_edge.live_calls (account);

CREATE TABLE sip_edge.call_records (
    id              text PRIMARY KEY,
    edge            text NOT NULL,
    started_at      timestamptz NOT NULL,
    ringing_at      timestamptz,
    answered_at     timestamptz,
    ended_at        timestamptz NOT NULL,
    direction       text NOT NULL,
    source_kind     text NOT NULL,
    source_name     text NOT NULL,
    account         text,
    billed_account  text,
    caller          text,
    caller_withheld boolean NOT NULL DEFAULT false,
    dialled         text,
    called          text,
    number          text,
    target_kind     text,
    target_name     text,
    carrier         text,
    presented       text,
    network_number  text,
    outcome         text NOT NULL,
    reason          text,
    sip_status      integer,
    a_cause         integer,
    b_cause         integer,
    released_by     text,
    a_call_id       text,
    b_call_id       text,
    emergency       boolean NOT NULL DEFAULT false,
    trace           jsonb,
    media           jsonb,
    attempts        jsonb
);
CREATE INDEX call_records_by_end ON sip_edge.call_records (ended_at);
CREATE INDEX call_records_of_account ON sip_edge.call_records (account, started_at);
CREATE INDEX call_records_of_billed_account ON sip_edge.call_records (billed_account, started_at);
CREATE INDEX call_records_by_a_call_id ON sip_edge.call_records (a_call_id);
CREATE INDEX call_records_by_b_call_id ON sip_edge.call_records (b_call_id);
CREATE INDEX call_records_refused ON sip_edge.call_records (ended_at) WHERE outcome = 'refused';

CREATE TABLE sip_edge.refused_calls (
    id              text PRIMARY KEY,
    at              timestamptz NOT NULL,
    level           text,
    direction       text NOT NULL,
    number          text,
    account         text,
    trunk           text,
    carrier         text,
    caller          text,
    caller_withheld boolean NOT NULL DEFAULT false,
    reason          text NOT NULL,
    sip_status      integer,
    limit_value     integer,
    used            integer,
    detail          text,
    source_ip       inet
);
CREATE INDEX refused_calls_by_time ON sip_edge.refused_calls (at);
CREATE INDEX refused_calls_of_account ON sip_edge.refused_calls (account, at);

-- What a portal reads: to the second seven days, whenever the purge last ran.
CREATE VIEW sip_edge.refusals AS
    SELECT * FROM sip_edge.refused_calls WHERE at > now() - interval '7 days';

CREATE TABLE sip_edge.faxes (
    id              text PRIMARY KEY,
    account         text NOT NULL,
    fax_box         text NOT NULL,
    number          text NOT NULL,
    caller          text,
    caller_withheld boolean NOT NULL DEFAULT false,
    call_id         text,
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    transport       text CHECK (transport IN ('t38', 'g711', 't38-refused')),
    remote_tsi      text,
    t30_code        integer,
    t30_text        text,
    sip_reason      text,
    pages           integer NOT NULL DEFAULT 0,
    page_quality    jsonb,
    bit_rate        integer,
    ecm             boolean,
    ecm_retries     integer,
    rtp_events      integer,
    rtn_events      integer,
    encoding        text,
    bytes           bigint,
    result          text CHECK (result IN ('complete', 'partial', 'failed')),
    content         bytea
);
CREATE INDEX faxes_of_account ON sip_edge.faxes (account, started_at);

CREATE TABLE sip_edge.fax_mails (
    fax             text PRIMARY KEY REFERENCES sip_edge.faxes ON DELETE CASCADE,
    email           text NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'delivered', 'failed')),
    tries           integer NOT NULL DEFAULT 0,
    next_try_at     timestamptz,
    last_error      text,
    delivered_at    timestamptz
);
CREATE INDEX fax_mails_due ON sip_edge.fax_mails (next_try_at) WHERE state = 'queued';

-- Purging. Each returns how many rows it deleted.

CREATE FUNCTION sip_edge.purge_refused_calls(at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    -- the call record of a refused call says the same and is not billed: it goes with it
    WITH records AS (
        DELETE FROM sip_edge.call_records WHERE outcome = 'refused' AND ended_at <= at_time - interval '7 days'
    ), gone AS (DELETE FROM sip_edge.refused_calls WHERE at <= at_time - interval '7 days' RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_call_records(keep interval, at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM sip_edge.call_records WHERE ended_at <= at_time - keep RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_registrations(at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM sip_edge.registrations WHERE expires_at <= at_time RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- The content of delivered faxes goes after a grace; what is left is the record.
CREATE FUNCTION sip_edge.purge_fax_content(grace interval, at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        UPDATE sip_edge.faxes f SET content = NULL FROM sip_edge.fax_mails m
        WHERE m.fax = f.id AND m.state = 'delivered' AND m.delivered_at <= at_time - grace AND f.content IS NOT NULL
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
