-- Provisioning: who may call, which numbers exist, where they go (docs/database.md).
--
-- Rules about one row are CHECK constraints; the comment of each constraint is its rule in words, which
-- sip_edge.rule(name) returns. Rules between rows are the functions sip_edge.*_faults, which return sentences; constraint
-- triggers raise the first of them when the transaction ends (SQLSTATE SE001), so rows may be written in any order.

-- Numbers ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION sip_edge.is_number(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value ~ '^\+[1-9][0-9]{7,14}$';

CREATE FUNCTION sip_edge.has_legal_length(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value NOT LIKE '+49%' OR length(value) <= 15;

-- The interval of a prefix among all numbers, read as a decimal fraction of 15 digits.
CREATE FUNCTION sip_edge.span(prefix text) RETURNS int8range LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN int8range(
    rpad(substr(prefix, 2), 15, '0')::int8,
    rpad(substr(prefix, 2), 15, '0')::int8 + power(10::numeric, 16 - length(prefix))::int8
);

CREATE FUNCTION sip_edge.is_prefix(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value ~ '^\+[1-9][0-9]{2,14}$';

-- The number itself and all its beginnings.
CREATE FUNCTION sip_edge.beginnings(number text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT left(number, n) FROM generate_series(2, length(number)) AS n);

CREATE FUNCTION sip_edge.is_route(kind text, target text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN kind IS NULL OR kind = 'none' THEN target IS NULL
    WHEN target IS NULL THEN false
    WHEN kind IN ('seat', 'trunk', 'fax') THEN target <> ''
    WHEN kind = 'forward' THEN sip_edge.is_number(target) AND sip_edge.has_legal_length(target)
    WHEN kind = 'extension' THEN target ~ '^[0-9]{2,8}$'
    WHEN kind = 'reject' THEN target ~ '^[456][0-9]{2}$'
    ELSE false
END;

CREATE FUNCTION sip_edge.is_time_zone(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM timestamptz '2026-01-01 00:00Z' AT TIME ZONE value;
    RETURN value ~ '^[A-Za-z]+(/[A-Za-z0-9_+-]+){0,2}$';
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END $$;

-- Facts about national numbers, by country; the same that the dial plan works with.

CREATE TABLE sip_edge.emergency_numbers (
    country text NOT NULL,
    digits  text NOT NULL,
    PRIMARY KEY (country, digits)
);
CREATE TABLE sip_edge.short_codes (
    country text NOT NULL,
    digits  text NOT NULL,
    PRIMARY KEY (country, digits)
);
CREATE TABLE sip_edge.never_shown (
    prefix text PRIMARY KEY
);

INSERT INTO sip_edge.emergency_numbers (country, digits)
SELECT country, unnest(string_to_array(list, ' ')) FROM (VALUES
    ('AD', '110 112 116 118'), ('AT', '112 122 128 133 140 141 144'), ('BE', '100 101 112'),
    ('BG', '112 150 160 166'), ('CA', '112 911'), ('CH', '112 117 118 1414 143 144 145 147'), ('CY', '112 199'),
    ('CZ', '112 150 151 152 153 154 155 156 157 158 159'), ('DE', '110 112'), ('DK', '112 114'), ('EE', '110 112'),
    ('ES', '061 062 080 085 088 091 092 112'), ('FI', '112'), ('FR', '112 114 115 119 15 17 18 191 196 197'),
    ('GB', '112 18000 999'), ('GG', '112 999'), ('GR', '100 108 112 166 199'), ('HR', '112 192 193 194'),
    ('HU', '104 105 107 112'), ('IE', '112 999'), ('IM', '112 999'), ('IS', '112'), ('IT', '112 113 115 118'),
    ('JE', '112 999'), ('LI', '112 117 118 144'), ('LT', '011 022 033 101 102 103 112'), ('LU', '112 113'),
    ('LV', '110 112 113'), ('MC', '112 15 17 18'), ('MT', '112'), ('NL', '112 911'), ('NO', '110 112 113'),
    ('PL', '112 997 998 999'), ('PT', '112 115'), ('RO', '112'), ('SE', '112 90000'), ('SI', '112 113'),
    ('SK', '112 150 155 158'), ('SM', '112 113 115 118'), ('US', '112 911'), ('VA', '112 113 115 118')
) AS lists (country, list);

INSERT INTO sip_edge.short_codes (country, digits)
SELECT country, unnest(string_to_array(list, ' ')) FROM (VALUES
    ('AT', '142 1450 147'), ('CH', '1811 1818'), ('DE', '115 124124 19222'), ('FR', '113 118 3020 3919'),
    ('GB', '100 101 105 111 119 123 150 151 154 155 159 195')
) AS lists (country, list);

INSERT INTO sip_edge.never_shown (prefix) VALUES
    ('+49900'), ('+49137'), ('+49138'), ('+49118'), ('+49110'), ('+49112'), ('+49115'), ('+449'), ('+44118'),
    ('+448979'), ('+44999'), ('+44112'), ('+43900'), ('+43901'), ('+43930'), ('+43931'), ('+43939'), ('+43118'),
    ('+41900'), ('+41901'), ('+41906'), ('+3389');

-- Emergency numbers of a country; 112 where the country is not listed.
CREATE FUNCTION sip_edge.emergency_digits(of_country text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT digits FROM sip_edge.emergency_numbers WHERE country = of_country
    UNION SELECT '112' WHERE NOT EXISTS (SELECT FROM sip_edge.emergency_numbers WHERE country = of_country)
$$;

-- Tables -------------------------------------------------------------------------------------------------------------

CREATE TABLE sip_edge.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
INSERT INTO sip_edge.settings VALUES ('realm', 'sip-edge');

CREATE TABLE sip_edge.carriers (
    name              text PRIMARY KEY,
    mode              text NOT NULL DEFAULT 'register',
    domain            text NOT NULL,
    outbound_proxy    text,
    transport         text NOT NULL DEFAULT 'udp',
    username          text,
    auth_username     text,
    gin               boolean NOT NULL DEFAULT false,
    expires           integer NOT NULL DEFAULT 600,
    sources           cidr[] NOT NULL DEFAULT '{}',
    identity          text NOT NULL DEFAULT 'pai-from',
    number_format     text NOT NULL DEFAULT 'e164-plus',
    ddi_source        text[] NOT NULL DEFAULT '{p-called-party-id,request-uri,to}',
    home_country      text NOT NULL DEFAULT 'DE',
    clip_no_screening boolean NOT NULL DEFAULT false,
    trusted           boolean NOT NULL DEFAULT true,
    codecs            text[] NOT NULL DEFAULT '{pcma,pcmu}',
    srtp              text NOT NULL DEFAULT 'off',
    t38               text NOT NULL DEFAULT 'offer',
    session_expires   integer NOT NULL DEFAULT 1800,
    max_calls         integer,
    max_calls_in      integer,
    max_calls_out     integer,
    max_cps           integer,
    priority          integer NOT NULL DEFAULT 10,
    weight            integer NOT NULL DEFAULT 1,
    failover_on       integer[] NOT NULL DEFAULT '{408,480,500,502,503,504}',
    sealed_password   text,
    CONSTRAINT carrier_name CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    CONSTRAINT carrier_mode CHECK (mode IN ('register', 'static')),
    CONSTRAINT carrier_domain CHECK (domain ~ '^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.?)+$' OR domain ~ '^\[[0-9A-Fa-f:.]+\]$'),
    CONSTRAINT carrier_outbound_proxy CHECK (outbound_proxy ~ '^sips?:[^[:space:]]+$'),
    CONSTRAINT carrier_transport CHECK (transport IN ('udp', 'tcp', 'tls')),
    CONSTRAINT carrier_register_needs_username CHECK (mode <> 'register' OR coalesce(username, '') <> ''),
    CONSTRAINT carrier_static_needs_sources CHECK (mode <> 'static' OR sources <> '{}'),
    CONSTRAINT carrier_gin_registers CHECK (NOT gin OR mode = 'register'),
    CONSTRAINT carrier_expires CHECK (expires BETWEEN 60 AND 86400),
    CONSTRAINT carrier_identity CHECK (identity IN ('pai-from', 'ppi-account', 'pai-presents', 'from-network', 'static-no-plus')),
    CONSTRAINT carrier_number_format CHECK (number_format IN ('e164-plus', 'e164', 'national', 'idd')),
    CONSTRAINT carrier_ddi_source CHECK (ddi_source <> '{}' AND ddi_source <@ '{p-called-party-id,request-uri,to}'::text[]),
    CONSTRAINT carrier_home_country CHECK (home_country ~ '^[A-Z]{2}$'),
    CONSTRAINT carrier_codecs CHECK (codecs <> '{}' AND array_position(codecs, NULL) IS NULL),
    CONSTRAINT carrier_srtp CHECK (srtp IN ('off', 'optional', 'required')),
    CONSTRAINT carrier_t38 CHECK (t38 IN ('offer', 'accept', 'off')),
    CONSTRAINT carrier_session_expires CHECK (session_expires BETWEEN 90 AND 86400),
    CONSTRAINT carrier_max_calls CHECK (max_calls >= 0),
    CONSTRAINT carrier_max_calls_in CHECK (max_calls_in >= 0),
    CONSTRAINT carrier_max_calls_out CHECK (max_calls_out >= 0),
    CONSTRAINT carrier_max_cps CHECK (max_cps >= 1),
    CONSTRAINT carrier_priority CHECK (priority BETWEEN 0 AND 65535),
    CONSTRAINT carrier_weight CHECK (weight BETWEEN 1 AND 65535),
    CONSTRAINT carrier_failover_on CHECK (300 <= ALL (failover_on) AND 699 >= ALL (failover_on) AND array_position(failover_on, NULL) IS NULL)
);

CREATE TABLE sip_edge.accounts (
    id                      text PRIMARY KEY,
    name                    text NOT NULL DEFAULT '',
    status                  text NOT NULL DEFAULT 'active',
    country                 text NOT NULL DEFAULT 'DE',
    time_zone               text NOT NULL DEFAULT 'Europe/Berlin',
    area_code               text,
    language                text NOT NULL DEFAULT 'de',
    email                   text,
    parallel_calls          integer,
    bare_numbers            text NOT NULL DEFAULT 'e164',
    clip_fallback           text NOT NULL DEFAULT 'own',
    allowed_destinations    text[],
    emergency_number        text,
    allow_zero_cli_prefixes boolean NOT NULL DEFAULT false,
    CONSTRAINT account_id CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    CONSTRAINT account_status CHECK (status IN ('trial', 'active', 'suspended')),
    CONSTRAINT account_country CHECK (country ~ '^[A-Z]{2}$'),
    CONSTRAINT account_time_zone CHECK (sip_edge.is_time_zone(time_zone)),
    CONSTRAINT account_area_code CHECK (area_code ~ '^[1-9][0-9]{0,5}$'),
    CONSTRAINT account_language CHECK (language IN ('de', 'en')),
    CONSTRAINT account_email CHECK (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT account_parallel_calls CHECK (parallel_calls >= 0),
    CONSTRAINT account_bare_numbers CHECK (bare_numbers IN ('e164', 'local', 'reject')),
    CONSTRAINT account_local_needs_area_code CHECK (bare_numbers <> 'local' OR area_code IS NOT NULL),
    CONSTRAINT account_clip_fallback CHECK (clip_fallback IN ('own', 'refuse')),
    CONSTRAINT account_allowed_destinations CHECK (array_to_string(allowed_destinations, ' ', '?') ~ '^(\*|(\+?[1-9][0-9]{0,14}( |$))*)$'),
    CONSTRAINT account_emergency_number CHECK (sip_edge.is_number(emergency_number))
);

CREATE TABLE sip_edge.trunks (
    account            text NOT NULL CONSTRAINT trunk_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    name               text NOT NULL,
    mode               text NOT NULL DEFAULT 'register',
    username           text,
    sources            cidr[] NOT NULL DEFAULT '{}',
    profile            text NOT NULL DEFAULT 'sipconnect-1.1',
    contact_name       text,
    contact_phone      text,
    contact_email      text,
    parallel_calls     integer,
    parallel_calls_in  integer,
    parallel_calls_out integer,
    valid_from         timestamptz,
    ordered_by         text NOT NULL DEFAULT 'K',
    default_number     text,
    clip_no_screening  boolean NOT NULL DEFAULT false,
    srtp               text NOT NULL DEFAULT 'off',
    t38                text NOT NULL DEFAULT 'offer',
    max_contacts       integer NOT NULL DEFAULT 5,
    ha1_md5            text,
    ha1_sha256         text,
    PRIMARY KEY (account, name),
    CONSTRAINT trunk_username_once UNIQUE (username) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT trunk_name CHECK (name ~ '^[^[:cntrl:][:space:]]([^[:cntrl:]]{0,62}[^[:cntrl:][:space:]])?$'),
    CONSTRAINT trunk_mode CHECK (mode IN ('register', 'gin', 'static')),
    CONSTRAINT trunk_username CHECK (username ~ '^[A-Za-z0-9][A-Za-z0-9._+-]{1,63}$'),
    CONSTRAINT trunk_register_needs_username CHECK (mode = 'static' OR username IS NOT NULL),
    CONSTRAINT trunk_static_needs_sources CHECK (mode <> 'static' OR sources <> '{}'),
    CONSTRAINT trunk_profile CHECK (profile IN ('sipconnect-1.1', 'sipconnect-2.0')),
    CONSTRAINT trunk_contact_email CHECK (contact_email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT trunk_parallel_calls CHECK (parallel_calls >= 0),
    CONSTRAINT trunk_parallel_calls_in CHECK (parallel_calls_in >= 0),
    CONSTRAINT trunk_parallel_calls_out CHECK (parallel_calls_out >= 0),
    CONSTRAINT trunk_ordered_by CHECK (ordered_by IN ('K', 'T')),
    CONSTRAINT trunk_default_number CHECK (sip_edge.is_number(default_number)),
    CONSTRAINT trunk_srtp CHECK (srtp IN ('off', 'optional', 'required')),
    CONSTRAINT trunk_t38 CHECK (t38 IN ('offer', 'accept', 'off')),
    CONSTRAINT trunk_max_contacts CHECK (max_contacts BETWEEN 1 AND 100),
    CONSTRAINT trunk_ha1_md5 CHECK (ha1_md5 ~ '^[0-9a-f]{32}$'),
    CONSTRAINT trunk_ha1_sha256 CHECK (ha1_sha256 ~ '^[0-9a-f]{64}$')
);

CREATE TABLE sip_edge.seats (
    username         text PRIMARY KEY,
    account          text NOT NULL CONSTRAINT seat_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    trunk            text,
    name             text NOT NULL DEFAULT '',
    email            text,
    mobile           text,
    extension        text,
    primary_number   text,
    external_numbers text[] NOT NULL DEFAULT '{}',
    present          text NOT NULL DEFAULT 'primary',
    reject_anonymous boolean NOT NULL DEFAULT false,
    max_contacts     integer NOT NULL DEFAULT 5,
    srtp             text NOT NULL DEFAULT 'off',
    ha1_md5          text,
    ha1_sha256       text,
    CONSTRAINT seat_trunk FOREIGN KEY (account, trunk) REFERENCES sip_edge.trunks ON DELETE SET NULL (trunk) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT seat_extension_once UNIQUE (account, extension) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT seat_primary_number_once UNIQUE (primary_number) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT seat_username CHECK (username COLLATE "C" ~ '^[a-z0-9]+([._-][a-z0-9]+)*$' AND length(username) BETWEEN 5 AND 64),
    CONSTRAINT seat_email CHECK (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT seat_mobile CHECK (sip_edge.is_number(mobile)),
    CONSTRAINT seat_extension CHECK (
        extension COLLATE "C" ~ '^[1-9][0-9]{1,7}$' AND extension !~ '^(77|78|110|112|141)' AND extension !~ '^118..$'
    ),
    CONSTRAINT seat_primary_number CHECK (sip_edge.is_number(primary_number)),
    CONSTRAINT seat_present CHECK (present IN ('primary', 'anonymous') OR present = ANY (external_numbers)),
    CONSTRAINT seat_max_contacts CHECK (max_contacts BETWEEN 1 AND 100),
    CONSTRAINT seat_srtp CHECK (srtp IN ('off', 'optional', 'required')),
    CONSTRAINT seat_ha1_md5 CHECK (ha1_md5 ~ '^[0-9a-f]{32}$'),
    CONSTRAINT seat_ha1_sha256 CHECK (ha1_sha256 ~ '^[0-9a-f]{64}$')
);
CREATE INDEX seats_of_account ON sip_edge.seats (account);
CREATE INDEX seats_presenting ON sip_edge.seats USING gin (external_numbers);

CREATE TABLE sip_edge.blocks (
    prefix         text PRIMARY KEY,
    digits         integer NOT NULL,
    account        text NOT NULL CONSTRAINT block_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    carrier        text NOT NULL CONSTRAINT block_carrier REFERENCES sip_edge.carriers DEFERRABLE INITIALLY DEFERRED,
    type           text NOT NULL DEFAULT 'geographic',
    status         text NOT NULL DEFAULT 'active',
    channels       integer NOT NULL DEFAULT 2,
    served_account text CONSTRAINT block_served_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    street         text,
    postcode       text,
    city           text,
    CONSTRAINT block_prefix CHECK (sip_edge.is_prefix(prefix)),
    CONSTRAINT block_digits CHECK (digits BETWEEN 1 AND 6),
    CONSTRAINT block_number_length CHECK (
        length(prefix) + digits BETWEEN 9 AND 16 AND sip_edge.has_legal_length(prefix || repeat('0', digits))
    ),
    CONSTRAINT block_type CHECK (type IN ('geographic', 'national', 'toll-free', 'mobile')),
    CONSTRAINT block_status CHECK (status IN ('pending', 'active', 'cancelled')),
    CONSTRAINT block_channels CHECK (channels BETWEEN 0 AND 10000),
    CONSTRAINT block_served_account_is_another CHECK (served_account <> account),
    CONSTRAINT blocks_do_not_overlap EXCLUDE USING gist (sip_edge.span(prefix) WITH &&) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX blocks_of_account ON sip_edge.blocks (account);
CREATE INDEX blocks_of_carrier ON sip_edge.blocks (carrier);
CREATE INDEX blocks_of_served_account ON sip_edge.blocks (served_account) WHERE served_account IS NOT NULL;

CREATE TABLE sip_edge.ranges (
    prefix                text PRIMARY KEY,
    block                 text NOT NULL CONSTRAINT range_block REFERENCES sip_edge.blocks DEFERRABLE INITIALLY DEFERRED,
    status                text,
    channels              integer,
    route_kind            text NOT NULL DEFAULT 'none',
    route_target          text,
    on_busy_kind          text,
    on_busy_target        text,
    on_no_answer_kind     text,
    on_no_answer_target   text,
    no_answer_after       integer NOT NULL DEFAULT 25,
    on_unreachable_kind   text,
    on_unreachable_target text,
    on_limit_kind         text,
    on_limit_target       text,
    valid_from            timestamptz,
    served_account        text CONSTRAINT range_served_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT range_prefix CHECK (sip_edge.is_prefix(prefix)),
    CONSTRAINT range_in_block CHECK (starts_with(prefix, block)),
    CONSTRAINT range_status CHECK (status IN ('pending', 'active', 'cancelled')),
    CONSTRAINT range_channels CHECK (channels BETWEEN 0 AND 10000),
    CONSTRAINT range_route CHECK (sip_edge.is_route(route_kind, route_target)),
    CONSTRAINT range_on_busy CHECK (sip_edge.is_route(on_busy_kind, on_busy_target)),
    CONSTRAINT range_on_no_answer CHECK (sip_edge.is_route(on_no_answer_kind, on_no_answer_target)),
    CONSTRAINT range_no_answer_after CHECK (no_answer_after BETWEEN 1 AND 300),
    CONSTRAINT range_on_unreachable CHECK (sip_edge.is_route(on_unreachable_kind, on_unreachable_target)),
    CONSTRAINT range_on_limit CHECK (sip_edge.is_route(on_limit_kind, on_limit_target)),
    CONSTRAINT ranges_do_not_overlap EXCLUDE USING gist (sip_edge.span(prefix) WITH &&) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ranges_of_block ON sip_edge.ranges (block);
CREATE INDEX ranges_by_route ON sip_edge.ranges (route_target, route_kind);
CREATE INDEX ranges_with_next_route ON sip_edge.ranges (prefix)
    WHERE coalesce(on_busy_kind, on_no_answer_kind, on_unreachable_kind, on_limit_kind) IS NOT NULL;
CREATE INDEX ranges_of_served_account ON sip_edge.ranges (served_account) WHERE served_account IS NOT NULL;

CREATE TABLE sip_edge.numbers (
    number                text PRIMARY KEY,
    account               text NOT NULL CONSTRAINT number_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    carrier               text NOT NULL CONSTRAINT number_carrier REFERENCES sip_edge.carriers DEFERRABLE INITIALLY DEFERRED,
    type                  text NOT NULL DEFAULT 'geographic',
    status                text NOT NULL DEFAULT 'active',
    channels              integer NOT NULL DEFAULT 2,
    cli_prefix            text,
    route_kind            text NOT NULL DEFAULT 'none',
    route_target          text,
    on_busy_kind          text,
    on_busy_target        text,
    on_no_answer_kind     text,
    on_no_answer_target   text,
    no_answer_after       integer NOT NULL DEFAULT 25,
    on_unreachable_kind   text,
    on_unreachable_target text,
    on_limit_kind         text,
    on_limit_target       text,
    valid_from            timestamptz,
    served_account        text CONSTRAINT number_served_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    street                text,
    postcode              text,
    city                  text,
    serving               text NOT NULL GENERATED ALWAYS AS (coalesce(served_account, account)) STORED,
    CONSTRAINT number_form CHECK (sip_edge.is_number(number)),
    CONSTRAINT number_length CHECK (sip_edge.has_legal_length(number)),
    CONSTRAINT number_type CHECK (type IN ('geographic', 'national', 'toll-free', 'mobile')),
    CONSTRAINT number_status CHECK (status IN ('pending', 'active', 'cancelled')),
    CONSTRAINT number_channels CHECK (channels BETWEEN 0 AND 10000),
    CONSTRAINT number_cli_prefix CHECK (cli_prefix COLLATE "C" ~ '^[0-9]{2}$'),
    CONSTRAINT number_route CHECK (sip_edge.is_route(route_kind, route_target)),
    CONSTRAINT number_on_busy CHECK (sip_edge.is_route(on_busy_kind, on_busy_target)),
    CONSTRAINT number_on_no_answer CHECK (sip_edge.is_route(on_no_answer_kind, on_no_answer_target)),
    CONSTRAINT number_no_answer_after CHECK (no_answer_after BETWEEN 1 AND 300),
    CONSTRAINT number_on_unreachable CHECK (sip_edge.is_route(on_unreachable_kind, on_unreachable_target)),
    CONSTRAINT number_on_limit CHECK (sip_edge.is_route(on_limit_kind, on_limit_target)),
    CONSTRAINT number_served_account_is_another CHECK (served_account <> account),
    CONSTRAINT number_cli_prefix_once EXCLUDE USING btree (serving WITH =, cli_prefix WITH =)
        WHERE (cli_prefix IS NOT NULL AND status <> 'cancelled') DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX numbers_of_account ON sip_edge.numbers (account);
CREATE INDEX numbers_of_carrier ON sip_edge.numbers (carrier);
CREATE INDEX numbers_of_served_account ON sip_edge.numbers (served_account) WHERE served_account IS NOT NULL;
CREATE INDEX numbers_by_route ON sip_edge.numbers (route_target, route_kind);
CREATE INDEX numbers_with_next_route ON sip_edge.numbers (number)
    WHERE coalesce(on_busy_kind, on_no_answer_kind, on_unreachable_kind, on_limit_kind) IS NOT NULL;

CREATE TABLE sip_edge.external_numbers (
    account     text NOT NULL CONSTRAINT external_number_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    number      text NOT NULL,
    status      text NOT NULL DEFAULT 'unverified',
    method      text,
    verified_at timestamptz,
    expires_at  timestamptz,
    source      text NOT NULL DEFAULT 'portal',
    PRIMARY KEY (account, number),
    CONSTRAINT external_number_form CHECK (sip_edge.is_number(number)),
    CONSTRAINT external_number_length CHECK (sip_edge.has_legal_length(number)),
    CONSTRAINT external_number_status CHECK (status IN ('unverified', 'verified', 'revoked')),
    CONSTRAINT external_number_method CHECK (method IN ('call', 'sms', 'support')),
    CONSTRAINT external_number_verified_at CHECK (status <> 'verified' OR (verified_at IS NOT NULL AND method IS NOT NULL)),
    CONSTRAINT external_number_sms_needs_mobile CHECK (
        method <> 'sms' OR NOT number ~ '^\+(49|44|43|41)' OR number ~ '^\+(491[567]|447[1-57-9]|436[4-9]|417[4-9])'
    ),
    CONSTRAINT external_number_source CHECK (source ~ '^[a-z][a-z0-9-]{0,31}$')
);

CREATE TABLE sip_edge.fax_boxes (
    account             text NOT NULL CONSTRAINT fax_box_account REFERENCES sip_edge.accounts DEFERRABLE INITIALLY DEFERRED,
    name                text NOT NULL,
    email               text NOT NULL,
    station_id          text,
    sealed_pdf_password text,
    PRIMARY KEY (account, name),
    CONSTRAINT fax_box_name CHECK (name ~ '^[^[:cntrl:][:space:]]([^[:cntrl:]]{0,62}[^[:cntrl:][:space:]])?$'),
    CONSTRAINT fax_box_email CHECK (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT fax_box_station_id CHECK (station_id ~ '^[+0-9 ]{1,20}$')
);

-- Rules between rows -------------------------------------------------------------------------------------------------

-- The account has the number, as its own or to serve, single or in a block.
CREATE FUNCTION sip_edge.account_has(whose text, e164 text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM sip_edge.numbers n
        WHERE n.number = e164 AND whose IN (n.account, n.serving) AND n.status <> 'cancelled'
    ) OR EXISTS (
        SELECT FROM sip_edge.blocks b
        WHERE b.prefix = ANY (sip_edge.beginnings(e164)) AND length(b.prefix) + b.digits = length(e164)
          AND b.status <> 'cancelled' AND (
            whose IN (b.account, b.served_account) OR EXISTS (
                SELECT FROM sip_edge.ranges r
                WHERE r.block = b.prefix AND r.prefix = ANY (sip_edge.beginnings(e164)) AND r.served_account = whose
            )
          )
    )
$$;

-- The seat that the number leads to, if it leads to one.
CREATE FUNCTION sip_edge.seat_of(e164 text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT route_target FROM sip_edge.numbers WHERE number = e164 AND route_kind = 'seat'
    UNION ALL
    SELECT r.route_target FROM sip_edge.ranges r JOIN sip_edge.blocks b ON b.prefix = r.block
    WHERE r.prefix = ANY (sip_edge.beginnings(e164)) AND length(b.prefix) + b.digits = length(e164) AND r.route_kind = 'seat'
    LIMIT 1
$$;

-- What is wrong with a route of a number that `serving` uses; NULL: nothing.
CREATE FUNCTION sip_edge.route_fault(serving text, place text, kind text, target text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF kind = 'seat' THEN
        IF NOT EXISTS (SELECT FROM sip_edge.seats WHERE username = target AND account = serving) THEN
            RETURN format('%s leads to seat %s, which does not exist in account %s', place, target, serving);
        END IF;
    ELSIF kind = 'trunk' THEN
        IF NOT EXISTS (SELECT FROM sip_edge.trunks WHERE account = serving AND name = target) THEN
            RETURN format('%s leads to trunk %s, which does not exist in account %s', place, target, serving);
        END IF;
    ELSIF kind = 'fax' THEN
        IF NOT EXISTS (SELECT FROM sip_edge.fax_boxes WHERE account = serving AND name = target) THEN
            RETURN format('%s leads to fax box %s, which does not exist in account %s', place, target, serving);
        END IF;
    ELSIF kind = 'extension' THEN
        IF NOT EXISTS (SELECT FROM sip_edge.seats WHERE account = serving AND extension = target) THEN
            RETURN format('%s leads to extension %s, which no seat of account %s has', place, target, serving);
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.served(r sip_edge.ranges) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(r.served_account, b.served_account, b.account) FROM sip_edge.blocks b WHERE b.prefix = r.block
$$;

-- At most 60 number elements lead to a trunk, of them at most 10 ranges of one block.
CREATE FUNCTION sip_edge.element_faults(of_account text, of_trunk text) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    elements bigint;
    crowded text;
BEGIN
    SELECT count(*) INTO elements FROM sip_edge.numbers
    WHERE route_target = of_trunk AND route_kind = 'trunk' AND serving = of_account;
    elements := elements + (
        SELECT count(*) FROM sip_edge.ranges r
        WHERE r.route_target = of_trunk AND r.route_kind = 'trunk' AND sip_edge.served(r) = of_account
    );
    IF elements > 60 THEN
        RETURN NEXT format('trunk %s of account %s would have %s number elements (single numbers and ranges); 60 is the most a trunk may have', of_trunk, of_account, elements);
    END IF;
    SELECT r.block INTO crowded FROM sip_edge.ranges r
    WHERE r.route_target = of_trunk AND r.route_kind = 'trunk' AND sip_edge.served(r) = of_account
    GROUP BY r.block HAVING count(*) > 10 LIMIT 1;
    IF crowded IS NOT NULL THEN
        RETURN NEXT format('trunk %s of account %s would have more than 10 ranges of block %s; 10 is the most of one block', of_trunk, of_account, crowded);
    END IF;
END $$;

CREATE FUNCTION sip_edge.account_faults(a sip_edge.accounts) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF a.emergency_number IS NOT NULL AND NOT sip_edge.account_has(a.id, a.emergency_number) THEN
        RETURN NEXT format('emergency_number %s is not a number of this account; it is sent on emergency calls and must be', a.emergency_number);
    END IF;
END $$;

CREATE FUNCTION sip_edge.trunk_faults(t sip_edge.trunks) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    other text;
BEGIN
    IF NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = t.account) THEN
        RETURN NEXT format('account %s does not exist', t.account);
    END IF;
    SELECT o.account || '/' || o.name INTO other FROM sip_edge.trunks o
    WHERE o.username = t.username AND (o.account, o.name) <> (t.account, t.name);
    IF FOUND THEN
        RETURN NEXT format('username %s is already that of trunk %s', t.username, other);
    END IF;
    IF EXISTS (SELECT FROM sip_edge.seats WHERE username = t.username) THEN
        RETURN NEXT format('username %s is already that of a seat', t.username);
    END IF;
    IF t.default_number IS NOT NULL AND NOT sip_edge.account_has(t.account, t.default_number) THEN
        RETURN NEXT format('default_number %s is not a number of account %s', t.default_number, t.account);
    END IF;
    IF t.sources <> '{}' THEN
        SELECT o.account || '/' || o.name INTO other
        FROM sip_edge.trunks o, unnest(o.sources) AS theirs, unnest(t.sources) AS ours
        WHERE (o.account, o.name) <> (t.account, t.name) AND ours && theirs LIMIT 1;
        IF FOUND THEN
            RETURN NEXT format('an address of its sources is also one of trunk %s: a call from there could belong to either', other);
        END IF;
        SELECT o.name INTO other FROM sip_edge.carriers o, unnest(o.sources) AS theirs, unnest(t.sources) AS ours
        WHERE ours && theirs LIMIT 1;
        IF FOUND THEN
            RETURN NEXT format('an address of its sources is also one of carrier %s: a call from there could belong to either', other);
        END IF;
    END IF;
    RETURN QUERY SELECT sip_edge.element_faults(t.account, t.name);
END $$;

CREATE FUNCTION sip_edge.carrier_faults(c sip_edge.carriers) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    other text;
BEGIN
    SELECT o.account || '/' || o.name INTO other
    FROM sip_edge.trunks o, unnest(o.sources) AS theirs, unnest(c.sources) AS ours WHERE ours && theirs LIMIT 1;
    IF FOUND THEN
        RETURN NEXT format('an address of its sources is also one of trunk %s: a call from there could belong to either', other);
    END IF;
END $$;

CREATE FUNCTION sip_edge.seat_faults(s sip_edge.seats) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    its_country text;
    other text;
BEGIN
    SELECT country INTO its_country FROM sip_edge.accounts WHERE id = s.account;
    IF NOT FOUND THEN
        RETURN NEXT format('account %s does not exist', s.account);
        RETURN;
    END IF;
    IF s.trunk IS NOT NULL AND NOT EXISTS (SELECT FROM sip_edge.trunks WHERE account = s.account AND name = s.trunk) THEN
        RETURN NEXT format('trunk %s does not exist in account %s', s.trunk, s.account);
    END IF;
    SELECT account || '/' || name INTO other FROM sip_edge.trunks WHERE username = s.username;
    IF FOUND THEN
        RETURN NEXT format('username %s is already that of trunk %s', s.username, other);
    END IF;

    IF s.extension IS NOT NULL THEN
        SELECT o.username INTO other FROM sip_edge.seats o
        WHERE o.account = s.account AND o.extension = s.extension AND o.username <> s.username;
        IF FOUND THEN
            RETURN NEXT format('extension %s is already that of seat %s', s.extension, other);
        END IF;
        IF s.extension IN (SELECT sip_edge.emergency_digits(its_country)) THEN
            RETURN NEXT format('extension %s is an emergency number in %s', s.extension, its_country);
        ELSIF s.extension ~ '^116...$' OR EXISTS (SELECT FROM sip_edge.short_codes WHERE country = its_country AND digits = s.extension) THEN
            RETURN NEXT format('extension %s is a national short code in %s', s.extension, its_country);
        END IF;
        SELECT n.number INTO other FROM sip_edge.numbers n
        WHERE n.serving = s.account AND n.status <> 'cancelled' AND n.cli_prefix = left(s.extension, 2)
          AND substr(s.extension, 3) IN (SELECT sip_edge.emergency_digits(its_country));
        IF FOUND THEN
            RETURN NEXT format('extension %s is CLI prefix %s of %s followed by emergency number %s: whoever dials it wants help', s.extension, left(s.extension, 2), other, substr(s.extension, 3));
        END IF;
    END IF;

    IF s.primary_number IS NOT NULL THEN
        SELECT o.username INTO other FROM sip_edge.seats o
        WHERE o.primary_number = s.primary_number AND o.username <> s.username;
        IF FOUND THEN
            RETURN NEXT format('primary_number %s is already that of seat %s; a number belongs to one seat', s.primary_number, other);
        END IF;
        IF NOT sip_edge.account_has(s.account, s.primary_number) THEN
            RETURN NEXT format('primary_number %s is not a number of account %s', s.primary_number, s.account);
        END IF;
        other := sip_edge.seat_of(s.primary_number);
        IF other <> s.username THEN
            RETURN NEXT format('primary_number %s leads to seat %s; a number belongs to one seat', s.primary_number, other);
        END IF;
    END IF;

    FOR other IN
        SELECT e FROM unnest(s.external_numbers) AS e WHERE NOT EXISTS (
            SELECT FROM sip_edge.external_numbers x WHERE x.account = s.account AND x.number = e AND x.status = 'verified'
        )
    LOOP
        RETURN NEXT format('external number %s is not a verified number of account %s: it has to be verified there before a seat may present it', other, s.account);
    END LOOP;
END $$;

CREATE FUNCTION sip_edge.block_faults(b sip_edge.blocks) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    other text;
BEGIN
    IF NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = b.account) THEN
        RETURN NEXT format('account %s does not exist', b.account);
    END IF;
    IF b.served_account IS NOT NULL AND NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = b.served_account) THEN
        RETURN NEXT format('served_account %s does not exist', b.served_account);
    END IF;
    IF NOT EXISTS (SELECT FROM sip_edge.carriers WHERE name = b.carrier) THEN
        RETURN NEXT format('carrier %s does not exist', b.carrier);
    END IF;
    SELECT o.prefix INTO other FROM sip_edge.blocks o
    WHERE sip_edge.span(o.prefix) && sip_edge.span(b.prefix) AND o.prefix <> b.prefix LIMIT 1;
    IF FOUND THEN
        RETURN NEXT format('it overlaps with block %s; a number can be in one block only', other);
    END IF;
    SELECT n.number INTO other FROM sip_edge.numbers n
    WHERE n.number COLLATE "C" BETWEEN b.prefix AND b.prefix || repeat('9', b.digits)
      AND length(n.number) = length(b.prefix) + b.digits AND starts_with(n.number, b.prefix) LIMIT 1;
    IF FOUND THEN
        RETURN NEXT format('number %s lies in it; a number of a block is a range of the block, not a single number', other);
    END IF;
END $$;
CREATE INDEX numbers_in_order ON sip_edge.numbers (number COLLATE "C");

CREATE FUNCTION sip_edge.range_faults(r sip_edge.ranges) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    b sip_edge.blocks;
    serving text;
    other text;
BEGIN
    SELECT * INTO b FROM sip_edge.blocks WHERE prefix = r.block;
    IF NOT FOUND THEN
        RETURN NEXT format('block %s does not exist', r.block);
        RETURN;
    END IF;
    IF length(r.prefix) > length(b.prefix) + b.digits THEN
        RETURN NEXT format('it is longer than the numbers of block %s, which have %s digits', b.prefix, length(b.prefix) + b.digits - 1);
    END IF;
    SELECT o.prefix INTO other FROM sip_edge.ranges o
    WHERE sip_edge.span(o.prefix) && sip_edge.span(r.prefix) AND o.prefix <> r.prefix LIMIT 1;
    IF FOUND THEN
        RETURN NEXT format('it overlaps with range %s; a number can be in one range only', other);
    END IF;
    IF EXISTS (SELECT FROM sip_edge.numbers WHERE number = r.prefix) THEN
        RETURN NEXT 'there is a single number with the same digits; one of the two has to go';
    END IF;
    IF r.served_account IS NOT NULL AND NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = r.served_account) THEN
        RETURN NEXT format('served_account %s does not exist', r.served_account);
    END IF;
    serving := coalesce(r.served_account, b.served_account, b.account);
    RETURN QUERY SELECT fault FROM (VALUES
        (sip_edge.route_fault(serving, 'route', r.route_kind, r.route_target)),
        (sip_edge.route_fault(serving, 'on_busy', r.on_busy_kind, r.on_busy_target)),
        (sip_edge.route_fault(serving, 'on_no_answer', r.on_no_answer_kind, r.on_no_answer_target)),
        (sip_edge.route_fault(serving, 'on_unreachable', r.on_unreachable_kind, r.on_unreachable_target)),
        (sip_edge.route_fault(serving, 'on_limit', r.on_limit_kind, r.on_limit_target))
    ) AS v (fault) WHERE fault IS NOT NULL;
    IF r.route_kind = 'seat' THEN
        SELECT s.username INTO other FROM sip_edge.seats s
        WHERE s.primary_number = r.prefix AND s.username <> r.route_target;
        IF FOUND THEN
            RETURN NEXT format('it leads to seat %s and is the primary number of seat %s; a number belongs to one seat', r.route_target, other);
        END IF;
    ELSIF r.route_kind = 'trunk' THEN
        RETURN QUERY SELECT sip_edge.element_faults(serving, r.route_target);
    END IF;
END $$;

CREATE FUNCTION sip_edge.number_faults(n sip_edge.numbers) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    its_country text;
    zero_allowed boolean;
    other text;
BEGIN
    SELECT country, allow_zero_cli_prefixes INTO its_country, zero_allowed FROM sip_edge.accounts WHERE id = n.serving;
    IF NOT FOUND THEN
        RETURN NEXT format('account %s does not exist', n.serving);
        RETURN;
    END IF;
    IF n.served_account IS NOT NULL AND NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = n.account) THEN
        RETURN NEXT format('account %s does not exist', n.account);
    END IF;
    IF NOT EXISTS (SELECT FROM sip_edge.carriers WHERE name = n.carrier) THEN
        RETURN NEXT format('carrier %s does not exist', n.carrier);
    END IF;
    SELECT b.prefix INTO other FROM sip_edge.blocks b
    WHERE b.prefix = ANY (sip_edge.beginnings(n.number)) AND length(b.prefix) + b.digits = length(n.number);
    IF FOUND THEN
        RETURN NEXT format('it lies in block %s; a number of a block is a range of the block, not a single number', other);
    END IF;
    IF EXISTS (SELECT FROM sip_edge.ranges WHERE prefix = n.number) THEN
        RETURN NEXT 'there is a range with the same digits; one of the two has to go';
    END IF;

    IF n.cli_prefix IS NOT NULL AND n.status <> 'cancelled' THEN
        IF n.cli_prefix < '10' AND NOT zero_allowed THEN
            RETURN NEXT format('cli_prefix %s begins with 0, like every national and international number that is dialled; choose 10 to 99', n.cli_prefix);
        END IF;
        SELECT o.number INTO other FROM sip_edge.numbers o
        WHERE o.serving = n.serving AND o.cli_prefix = n.cli_prefix AND o.cli_prefix IS NOT NULL
          AND o.status <> 'cancelled' AND o.number <> n.number;
        IF FOUND THEN
            RETURN NEXT format('cli_prefix %s is already that of number %s in account %s', n.cli_prefix, other, n.serving);
        END IF;
        SELECT s.username INTO other FROM sip_edge.seats s
        WHERE s.account = n.serving
          AND s.extension IN (SELECT n.cli_prefix || e FROM sip_edge.emergency_digits(its_country) AS e) LIMIT 1;
        IF FOUND THEN
            RETURN NEXT format('cli_prefix %s followed by an emergency number is the extension of seat %s', n.cli_prefix, other);
        END IF;
    END IF;

    other := sip_edge.route_fault(n.serving, 'route', n.route_kind, n.route_target);
    IF other IS NOT NULL THEN
        RETURN NEXT other;
    END IF;
    IF n.route_kind = 'forward' AND n.route_target = n.number THEN
        RETURN NEXT 'it is forwarded to itself';
    END IF;
    IF coalesce(n.on_busy_kind, n.on_no_answer_kind, n.on_unreachable_kind, n.on_limit_kind) IS NOT NULL THEN
        RETURN QUERY SELECT fault FROM (VALUES
            (sip_edge.route_fault(n.serving, 'on_busy', n.on_busy_kind, n.on_busy_target)),
            (sip_edge.route_fault(n.serving, 'on_no_answer', n.on_no_answer_kind, n.on_no_answer_target)),
            (sip_edge.route_fault(n.serving, 'on_unreachable', n.on_unreachable_kind, n.on_unreachable_target)),
            (sip_edge.route_fault(n.serving, 'on_limit', n.on_limit_kind, n.on_limit_target))
        ) AS v (fault) WHERE fault IS NOT NULL;
    END IF;
    IF n.route_kind = 'seat' THEN
        SELECT s.username INTO other FROM sip_edge.seats s
        WHERE s.primary_number = n.number AND s.username <> n.route_target;
        IF FOUND THEN
            RETURN NEXT format('it leads to seat %s and is the primary number of seat %s; a number belongs to one seat', n.route_target, other);
        END IF;
    ELSIF n.route_kind = 'trunk' THEN
        RETURN QUERY SELECT sip_edge.element_faults(n.serving, n.route_target);
    END IF;
END $$;

CREATE FUNCTION sip_edge.external_number_faults(x sip_edge.external_numbers) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    other text;
BEGIN
    SELECT status INTO other FROM sip_edge.accounts WHERE id = x.account;
    IF NOT FOUND THEN
        RETURN NEXT format('account %s does not exist', x.account);
    ELSIF other = 'trial' AND x.status = 'verified' THEN
        RETURN NEXT 'the account is on trial; external numbers are verified once it is active';
    END IF;
    SELECT prefix INTO other FROM sip_edge.never_shown WHERE starts_with(x.number, prefix) LIMIT 1;
    IF FOUND THEN
        RETURN NEXT format('numbers beginning with %s may never be shown as a caller''s number (premium rate, mass traffic, directory enquiry, short codes and emergency numbers); contact support', other);
    END IF;
    SELECT account INTO other FROM sip_edge.numbers WHERE number = x.number AND status <> 'cancelled'
    UNION ALL
    SELECT account FROM sip_edge.blocks
    WHERE prefix = ANY (sip_edge.beginnings(x.number)) AND length(prefix) + digits = length(x.number);
    IF FOUND THEN
        RETURN NEXT 'it is a number of this edge; an external number is one that the customer has elsewhere';
    END IF;
END $$;

-- Triggers -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION sip_edge.refuse(what text, fault text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'SE001', MESSAGE = format('%s: %s', what, fault);
END $$;

-- Constraint triggers see the row as it was when the event happened; what counts is how the transaction leaves it.

CREATE FUNCTION sip_edge.check_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    a sip_edge.accounts;
    s sip_edge.seats;
    n sip_edge.numbers;
    fault text;
BEGIN
    SELECT * INTO a FROM sip_edge.accounts WHERE id = NEW.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR fault IN SELECT sip_edge.account_faults(a) LOOP
        PERFORM sip_edge.refuse('accounts ' || a.id, fault);
    END LOOP;
    IF TG_OP = 'UPDATE' THEN
        IF OLD.country <> NEW.country THEN
            FOR s IN SELECT * FROM sip_edge.seats WHERE account = a.id AND extension IS NOT NULL LOOP
                FOR fault IN SELECT sip_edge.seat_faults(s) LOOP
                    PERFORM sip_edge.refuse('seats ' || s.username, fault);
                END LOOP;
            END LOOP;
        END IF;
        IF OLD.allow_zero_cli_prefixes AND NOT NEW.allow_zero_cli_prefixes THEN
            FOR n IN SELECT * FROM sip_edge.numbers WHERE serving = a.id AND cli_prefix LIKE '0%' LOOP
                FOR fault IN SELECT sip_edge.number_faults(n) LOOP
                    PERFORM sip_edge.refuse('numbers ' || n.number, fault);
                END LOOP;
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_carrier() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c sip_edge.carriers;
    fault text;
BEGIN
    SELECT * INTO c FROM sip_edge.carriers WHERE name = NEW.name;
    IF FOUND THEN
        FOR fault IN SELECT sip_edge.carrier_faults(c) LOOP
            PERFORM sip_edge.refuse('carriers ' || c.name, fault);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_trunk() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    t sip_edge.trunks;
    fault text;
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.account, OLD.name) <> (NEW.account, NEW.name) THEN
        PERFORM sip_edge.check_routes_to('trunk', OLD.account, OLD.name);
    END IF;
    SELECT * INTO t FROM sip_edge.trunks WHERE account = NEW.account AND name = NEW.name;
    IF FOUND THEN
        FOR fault IN SELECT sip_edge.trunk_faults(t) LOOP
            PERFORM sip_edge.refuse(format('trunks %s/%s', t.account, t.name), fault);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;

-- A row that routes may lead to is gone, or another: whatever still leads there is refused.
CREATE FUNCTION sip_edge.check_routes_to(kind text, of_account text, target text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    n sip_edge.numbers;
    r sip_edge.ranges;
    fault text;
BEGIN
    FOR n IN
        SELECT * FROM sip_edge.numbers WHERE route_target = target AND route_kind = kind AND serving = of_account
        UNION ALL
        SELECT * FROM sip_edge.numbers
        WHERE coalesce(on_busy_kind, on_no_answer_kind, on_unreachable_kind, on_limit_kind) IS NOT NULL
          AND target IN (on_busy_target, on_no_answer_target, on_unreachable_target, on_limit_target) AND serving = of_account
    LOOP
        FOR fault IN SELECT sip_edge.number_faults(n) LOOP
            PERFORM sip_edge.refuse('numbers ' || n.number, fault);
        END LOOP;
    END LOOP;
    FOR r IN
        SELECT * FROM sip_edge.ranges WHERE route_target = target AND route_kind = kind
        UNION ALL
        SELECT * FROM sip_edge.ranges
        WHERE coalesce(on_busy_kind, on_no_answer_kind, on_unreachable_kind, on_limit_kind) IS NOT NULL
          AND target IN (on_busy_target, on_no_answer_target, on_unreachable_target, on_limit_target)
    LOOP
        FOR fault IN SELECT sip_edge.range_faults(r) LOOP
            PERFORM sip_edge.refuse('ranges ' || r.prefix, fault);
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION sip_edge.check_seat() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    s sip_edge.seats;
    fault text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF TG_OP = 'DELETE' OR (OLD.username, OLD.account) <> (NEW.username, NEW.account) THEN
            PERFORM sip_edge.check_routes_to('seat', OLD.account, OLD.username);
        END IF;
        IF OLD.extension IS NOT NULL AND
           (TG_OP = 'DELETE' OR (OLD.account, OLD.extension) IS DISTINCT FROM (NEW.account, NEW.extension)) THEN
            PERFORM sip_edge.check_routes_to('extension', OLD.account, OLD.extension);
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT * INTO s FROM sip_edge.seats WHERE username = NEW.username;
        IF FOUND THEN
            FOR fault IN SELECT sip_edge.seat_faults(s) LOOP
                PERFORM sip_edge.refuse('seats ' || s.username, fault);
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_fax_box() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (OLD.account, OLD.name) <> (NEW.account, NEW.name) THEN
        PERFORM sip_edge.check_routes_to('fax', OLD.account, OLD.name);
    END IF;
    RETURN NULL;
END $$;

-- Seats, trunks and accounts that name a number which is gone or no longer theirs.
CREATE FUNCTION sip_edge.check_users_of(first text, last text, whose text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    what text;
    fault text;
BEGIN
    FOR what, fault IN
        SELECT 'seats ' || s.username, sip_edge.seat_faults(s) FROM sip_edge.seats s
        WHERE s.account = ANY (whose) AND s.primary_number COLLATE "C" BETWEEN first AND last
        UNION ALL
        SELECT format('trunks %s/%s', t.account, t.name), sip_edge.trunk_faults(t) FROM sip_edge.trunks t
        WHERE t.account = ANY (whose) AND t.default_number COLLATE "C" BETWEEN first AND last
        UNION ALL
        SELECT 'accounts ' || a.id, sip_edge.account_faults(a) FROM sip_edge.accounts a
        WHERE a.id = ANY (whose) AND a.emergency_number COLLATE "C" BETWEEN first AND last
    LOOP
        PERFORM sip_edge.refuse(what, fault);
    END LOOP;
END $$;

CREATE FUNCTION sip_edge.check_block() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    b sip_edge.blocks;
    r sip_edge.ranges;
    fault text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM sip_edge.check_users_of(OLD.prefix, OLD.prefix || repeat('9', OLD.digits), ARRAY[OLD.account, OLD.served_account]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT * INTO b FROM sip_edge.blocks WHERE prefix = NEW.prefix;
        IF FOUND THEN
            FOR fault IN SELECT sip_edge.block_faults(b) LOOP
                PERFORM sip_edge.refuse('blocks ' || b.prefix, fault);
            END LOOP;
            FOR r IN SELECT * FROM sip_edge.ranges WHERE block = b.prefix AND TG_OP = 'UPDATE' LOOP
                FOR fault IN SELECT sip_edge.range_faults(r) LOOP
                    PERFORM sip_edge.refuse('ranges ' || r.prefix, fault);
                END LOOP;
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_range() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r sip_edge.ranges;
    fault text;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.served_account IS NOT NULL THEN
        PERFORM sip_edge.check_users_of(OLD.prefix, OLD.prefix || '999999', ARRAY[OLD.served_account]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT * INTO r FROM sip_edge.ranges WHERE prefix = NEW.prefix;
        IF FOUND THEN
            FOR fault IN SELECT sip_edge.range_faults(r) LOOP
                PERFORM sip_edge.refuse('ranges ' || r.prefix, fault);
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_number() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    n sip_edge.numbers;
    fault text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM sip_edge.check_users_of(OLD.number, OLD.number, ARRAY[OLD.account, OLD.served_account]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT * INTO n FROM sip_edge.numbers WHERE number = NEW.number;
        IF FOUND THEN
            FOR fault IN SELECT sip_edge.number_faults(n) LOOP
                PERFORM sip_edge.refuse('numbers ' || n.number, fault);
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION sip_edge.check_external_number() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    x sip_edge.external_numbers;
    what text;
    fault text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        FOR what, fault IN
            SELECT s.username, sip_edge.seat_faults(s) FROM sip_edge.seats s
            WHERE s.external_numbers @> ARRAY[OLD.number] AND s.account = OLD.account
        LOOP
            PERFORM sip_edge.refuse('seats ' || what, fault);
        END LOOP;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT * INTO x FROM sip_edge.external_numbers WHERE account = NEW.account AND number = NEW.number;
        IF FOUND THEN
            FOR fault IN SELECT sip_edge.external_number_faults(x) LOOP
                PERFORM sip_edge.refuse(format('external_numbers %s/%s', x.account, x.number), fault);
            END LOOP;
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Named with a capital so that they speak before PostgreSQL's own triggers of foreign keys and uniqueness.
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE ON sip_edge.accounts
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_account();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE ON sip_edge.carriers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_carrier();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE ON sip_edge.trunks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_trunk();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE OR DELETE ON sip_edge.seats
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_seat();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE OR DELETE ON sip_edge.blocks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_block();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE OR DELETE ON sip_edge.ranges
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_range();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE OR DELETE ON sip_edge.numbers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_number();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER INSERT OR UPDATE OR DELETE ON sip_edge.external_numbers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_external_number();
CREATE CONSTRAINT TRIGGER "A_rules" AFTER UPDATE OR DELETE ON sip_edge.fax_boxes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_fax_box();

-- A single number and a block around it cannot come into being at the same time: who writes blocks writes alone.
CREATE FUNCTION sip_edge.take_turns() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'blocks' THEN
        PERFORM pg_advisory_xact_lock(hashtext('sip_edge.blocks'));
    ELSE
        PERFORM pg_advisory_xact_lock_shared(hashtext('sip_edge.blocks'));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER take_turns BEFORE INSERT OR UPDATE ON sip_edge.blocks FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.take_turns();
CREATE TRIGGER take_turns BEFORE INSERT OR UPDATE ON sip_edge.numbers FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.take_turns();

-- A deleted trunk sets its numbers free at once.
CREATE FUNCTION sip_edge.free_numbers_of_trunk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sip_edge.numbers SET route_kind = 'none', route_target = NULL
    WHERE route_target = OLD.name AND route_kind = 'trunk' AND serving = OLD.account;
    UPDATE sip_edge.ranges r SET route_kind = 'none', route_target = NULL
    WHERE r.route_target = OLD.name AND r.route_kind = 'trunk' AND sip_edge.served(r) = OLD.account;
    RETURN NULL;
END $$;
CREATE TRIGGER free_numbers AFTER DELETE ON sip_edge.trunks FOR EACH ROW EXECUTE FUNCTION sip_edge.free_numbers_of_trunk();
CREATE FUNCTION sip_edge.check_deleted_trunk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sip_edge.check_routes_to('trunk', OLD.account, OLD.name);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER "A_deleted" AFTER DELETE ON sip_edge.trunks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sip_edge.check_deleted_trunk();

-- A number that is no longer verified is taken off the seats that present it, so that it can be revoked at any time.
CREATE FUNCTION sip_edge.take_off_seats() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sip_edge.seats SET
        external_numbers = array_remove(external_numbers, NEW.number),
        present = CASE WHEN present = NEW.number THEN 'primary' ELSE present END
    WHERE external_numbers @> ARRAY[NEW.number] AND account = NEW.account;
    RETURN NULL;
END $$;
CREATE TRIGGER take_off_seats AFTER UPDATE OF status ON sip_edge.external_numbers FOR EACH ROW
    WHEN (OLD.status = 'verified' AND NEW.status <> 'verified') EXECUTE FUNCTION sip_edge.take_off_seats();

-- Passwords ----------------------------------------------------------------------------------------------------------

-- HA1 holds the username and the realm: neither may change under it.
CREATE FUNCTION sip_edge.keep_ha1_true() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.username IS DISTINCT FROM OLD.username AND NEW.ha1_md5 IS NOT NULL AND NEW.ha1_md5 = OLD.ha1_md5
       OR NEW.username IS DISTINCT FROM OLD.username AND NEW.ha1_sha256 IS NOT NULL AND NEW.ha1_sha256 = OLD.ha1_sha256 THEN
        PERFORM sip_edge.refuse(format('%s %s', TG_TABLE_NAME, OLD.username), 'a new username needs a new password: set ha1_md5 and ha1_sha256 to NULL with it, then set the password');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_ha1_true BEFORE UPDATE OF username ON sip_edge.seats FOR EACH ROW EXECUTE FUNCTION sip_edge.keep_ha1_true();
CREATE TRIGGER keep_ha1_true BEFORE UPDATE OF username ON sip_edge.trunks FOR EACH ROW EXECUTE FUNCTION sip_edge.keep_ha1_true();

CREATE FUNCTION sip_edge.keep_realm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.name = 'realm' AND (TG_OP = 'DELETE' OR (NEW.name, NEW.value) <> (OLD.name, OLD.value)) AND (
        EXISTS (SELECT FROM sip_edge.seats WHERE ha1_md5 IS NOT NULL OR ha1_sha256 IS NOT NULL)
        OR EXISTS (SELECT FROM sip_edge.trunks WHERE ha1_md5 IS NOT NULL OR ha1_sha256 IS NOT NULL)
    ) THEN
        PERFORM sip_edge.refuse('settings realm', format('all stored passwords are for realm %s; with another realm every one has to be set anew', OLD.value));
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER keep_realm BEFORE UPDATE OR DELETE ON sip_edge.settings FOR EACH ROW EXECUTE FUNCTION sip_edge.keep_realm();

CREATE FUNCTION sip_edge.ha1(username text, password text, algorithm text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    secret text;
BEGIN
    SELECT username || ':' || value || ':' || password INTO STRICT secret FROM sip_edge.settings WHERE name = 'realm';
    RETURN CASE algorithm
        WHEN 'md5' THEN md5(secret)
        WHEN 'sha256' THEN encode(sha256(convert_to(secret, 'UTF8')), 'hex')
    END;
END $$;

CREATE FUNCTION sip_edge.check_password(what text, password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF password IS NULL OR length(password) < 8 THEN
        PERFORM sip_edge.refuse(what, 'a password has at least 8 characters');
    END IF;
    IF password ~ '[[:cntrl:]]' THEN
        PERFORM sip_edge.refuse(what, 'a password has no control characters');
    END IF;
END $$;

CREATE FUNCTION sip_edge.set_seat_password(username text, password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sip_edge.check_password('seats ' || $1, $2);
    UPDATE sip_edge.seats s SET ha1_md5 = sip_edge.ha1($1, $2, 'md5'), ha1_sha256 = sip_edge.ha1($1, $2, 'sha256')
    WHERE s.username = $1;
    IF NOT FOUND THEN
        PERFORM sip_edge.refuse('seats ' || $1, 'does not exist');
    END IF;
END $$;

CREATE FUNCTION sip_edge.set_trunk_password(username text, password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sip_edge.check_password('trunks ' || $1, $2);
    UPDATE sip_edge.trunks t SET ha1_md5 = sip_edge.ha1($1, $2, 'md5'), ha1_sha256 = sip_edge.ha1($1, $2, 'sha256')
    WHERE t.username = $1;
    IF NOT FOUND THEN
        PERFORM sip_edge.refuse('trunks ' || $1, 'no trunk has this username');
    END IF;
END $$;

-- Notices ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION sip_edge.notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sip_edge_provisioning', TG_TABLE_NAME);
    RETURN NULL;
END $$;

DO $$
DECLARE
    which text;
BEGIN
    FOREACH which IN ARRAY ARRAY['settings', 'carriers', 'accounts', 'trunks', 'seats', 'blocks', 'external_numbers', 'fax_boxes'] LOOP
        EXECUTE format('CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sip_edge.%I FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.notify_change()', which);
    END LOOP;
END $$;

-- Numbers may be a million: which ones changed is said, so that an edge need not read them all. 100 in one statement and
-- fewer are named, with more the table alone.
CREATE FUNCTION sip_edge.notify_keys() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    keys text[];
BEGIN
    IF TG_TABLE_NAME = 'numbers' THEN
        CASE TG_OP
            WHEN 'INSERT' THEN keys := ARRAY(SELECT number FROM new_rows LIMIT 101);
            WHEN 'DELETE' THEN keys := ARRAY(SELECT number FROM old_rows LIMIT 101);
            ELSE keys := ARRAY(SELECT number FROM new_rows UNION SELECT number FROM old_rows LIMIT 101);
        END CASE;
    ELSE
        CASE TG_OP
            WHEN 'INSERT' THEN keys := ARRAY(SELECT prefix FROM new_rows LIMIT 101);
            WHEN 'DELETE' THEN keys := ARRAY(SELECT prefix FROM old_rows LIMIT 101);
            ELSE keys := ARRAY(SELECT prefix FROM new_rows UNION SELECT prefix FROM old_rows LIMIT 101);
        END CASE;
    END IF;
    IF cardinality(keys) > 100 THEN
        PERFORM pg_notify('sip_edge_provisioning', TG_TABLE_NAME);
    ELSIF cardinality(keys) > 0 THEN
        PERFORM pg_notify('sip_edge_provisioning', TG_TABLE_NAME || ' ' || array_to_string(keys, ' '));
    END IF;
    RETURN NULL;
END $$;

DO $$
DECLARE
    which text;
BEGIN
    FOREACH which IN ARRAY ARRAY['ranges', 'numbers'] LOOP
        EXECUTE format('CREATE TRIGGER notify_insert AFTER INSERT ON sip_edge.%I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.notify_keys()', which);
        EXECUTE format('CREATE TRIGGER notify_update AFTER UPDATE ON sip_edge.%I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.notify_keys()', which);
        EXECUTE format('CREATE TRIGGER notify_delete AFTER DELETE ON sip_edge.%I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.notify_keys()', which);
        EXECUTE format('CREATE TRIGGER notify_truncate AFTER TRUNCATE ON sip_edge.%I FOR EACH STATEMENT EXECUTE FUNCTION sip_edge.notify_change()', which);
    END LOOP;
END $$;

-- The rules in words -------------------------------------------------------------------------------------------------

CREATE FUNCTION sip_edge.rule(constraint_name text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint
    WHERE conname = constraint_name AND connamespace = 'sip_edge'::regnamespace LIMIT 1
$$;

DO $$
DECLARE
    which text;
    table_name text;
    words text;
BEGIN
    FOR which, table_name, words IN VALUES
        ('settings_pkey', 'settings', 'a setting of this name exists already'),
        ('carriers_pkey', 'carriers', 'a carrier of this name exists already'),
        ('carrier_name', 'carriers', 'name is 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit'),
        ('carrier_mode', 'carriers', 'mode is register or static'),
        ('carrier_domain', 'carriers', 'domain is a host name or an address'),
        ('carrier_outbound_proxy', 'carriers', 'outbound_proxy is a SIP URI, such as sip:proxy.example;transport=tls'),
        ('carrier_transport', 'carriers', 'transport is udp, tcp or tls'),
        ('carrier_register_needs_username', 'carriers', 'mode register needs a username'),
        ('carrier_static_needs_sources', 'carriers', 'mode static needs sources: the addresses or networks that may send to us'),
        ('carrier_gin_registers', 'carriers', 'gin (bulk registration) needs mode register'),
        ('carrier_expires', 'carriers', 'expires is 60 to 86400 seconds'),
        ('carrier_identity', 'carriers', 'identity is pai-from, ppi-account, pai-presents, from-network or static-no-plus'),
        ('carrier_number_format', 'carriers', 'number_format is e164-plus, e164, national or idd'),
        ('carrier_ddi_source', 'carriers', 'ddi_source lists one or more of p-called-party-id, request-uri and to'),
        ('carrier_home_country', 'carriers', 'home_country is a country in two capital letters, such as DE'),
        ('carrier_codecs', 'carriers', 'codecs lists at least one codec'),
        ('carrier_srtp', 'carriers', 'srtp is off, optional or required'),
        ('carrier_t38', 'carriers', 't38 is offer, accept or off'),
        ('carrier_session_expires', 'carriers', 'session_expires is 90 to 86400 seconds'),
        ('carrier_max_calls', 'carriers', 'max_calls is 0 or more, or absent for no limit'),
        ('carrier_max_calls_in', 'carriers', 'max_calls_in is 0 or more, or absent for no limit'),
        ('carrier_max_calls_out', 'carriers', 'max_calls_out is 0 or more, or absent for no limit'),
        ('carrier_max_cps', 'carriers', 'max_cps is 1 or more calls per second, or absent for no limit'),
        ('carrier_priority', 'carriers', 'priority is 0 to 65535, lower ones first'),
        ('carrier_weight', 'carriers', 'weight is 1 to 65535'),
        ('carrier_failover_on', 'carriers', 'failover_on lists SIP statuses, 300 to 699'),
        ('accounts_pkey', 'accounts', 'an account with this id exists already'),
        ('account_id', 'accounts', 'id is 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit'),
        ('account_status', 'accounts', 'status is trial, active or suspended'),
        ('account_country', 'accounts', 'country is two capital letters, such as DE'),
        ('account_time_zone', 'accounts', 'time_zone is a name of the time zone database, such as Europe/Berlin'),
        ('account_area_code', 'accounts', 'area_code is 1 to 6 digits without the leading 0'),
        ('account_language', 'accounts', 'language is de or en'),
        ('account_email', 'accounts', 'email is a mail address'),
        ('account_parallel_calls', 'accounts', 'parallel_calls is 0 or more, or absent for no limit'),
        ('account_bare_numbers', 'accounts', 'bare_numbers is e164, local or reject'),
        ('account_local_needs_area_code', 'accounts', 'bare_numbers local needs an area_code'),
        ('account_clip_fallback', 'accounts', 'clip_fallback is own or refuse'),
        ('account_allowed_destinations', 'accounts', 'allowed_destinations lists prefixes such as +49 or short codes such as 11833, or is * alone'),
        ('account_emergency_number', 'accounts', 'emergency_number is E.164 with +, such as +4922838600'),
        ('trunks_pkey', 'trunks', 'a trunk of this name exists already in the account'),
        ('trunk_account', 'trunks', 'the account of a trunk has to exist; delete the trunk before its account'),
        ('trunk_username_once', 'trunks', 'username belongs to one trunk'),
        ('trunk_name', 'trunks', 'name is 1 to 64 printable characters without blanks at its ends'),
        ('trunk_mode', 'trunks', 'mode is register, gin or static'),
        ('trunk_username', 'trunks', 'username is 2 to 64 letters, digits and . _ + -, beginning with a letter or digit'),
        ('trunk_register_needs_username', 'trunks', 'mode register and gin need a username'),
        ('trunk_static_needs_sources', 'trunks', 'mode static needs sources: the addresses or networks of the PBX'),
        ('trunk_profile', 'trunks', 'profile is sipconnect-1.1 or sipconnect-2.0'),
        ('trunk_contact_email', 'trunks', 'the contact''s email is a mail address'),
        ('trunk_parallel_calls', 'trunks', 'parallel_calls is 0 or more, or absent for no limit'),
        ('trunk_parallel_calls_in', 'trunks', 'parallel_calls_in is 0 or more, or absent for no limit'),
        ('trunk_parallel_calls_out', 'trunks', 'parallel_calls_out is 0 or more, or absent for no limit'),
        ('trunk_ordered_by', 'trunks', 'ordered_by is K (customer) or T (operator)'),
        ('trunk_default_number', 'trunks', 'default_number is E.164 with +, such as +4922838600'),
        ('trunk_srtp', 'trunks', 'srtp is off, optional or required'),
        ('trunk_t38', 'trunks', 't38 is offer, accept or off'),
        ('trunk_max_contacts', 'trunks', 'max_contacts is 1 to 100'),
        ('trunk_ha1_md5', 'trunks', 'ha1_md5 is the MD5 of username:realm:password in 32 lower-case hex digits'),
        ('trunk_ha1_sha256', 'trunks', 'ha1_sha256 is the SHA-256 of username:realm:password in 64 lower-case hex digits'),
        ('seats_pkey', 'seats', 'a seat with this username exists already'),
        ('seat_account', 'seats', 'the account of a seat has to exist; delete the seat before its account'),
        ('seat_trunk', 'seats', 'the trunk of a seat has to exist in its account'),
        ('seat_extension_once', 'seats', 'extension belongs to one seat of an account'),
        ('seat_primary_number_once', 'seats', 'primary_number belongs to one seat'),
        ('seat_username', 'seats', 'username has at least 5 characters: lower-case letters a to z, digits, and single . _ - between them'),
        ('seat_email', 'seats', 'email is a mail address'),
        ('seat_mobile', 'seats', 'mobile is E.164 with +, such as +4915112345678'),
        ('seat_extension', 'seats', 'extension is 2 to 8 digits, not beginning with 0, 77, 78, 110, 112 or 141, and not 118 with two more digits'),
        ('seat_primary_number', 'seats', 'primary_number is E.164 with +, such as +4922838600'),
        ('seat_present', 'seats', 'present is primary, anonymous, or one of the seat''s external_numbers'),
        ('seat_max_contacts', 'seats', 'max_contacts is 1 to 100'),
        ('seat_srtp', 'seats', 'srtp is off, optional or required'),
        ('seat_ha1_md5', 'seats', 'ha1_md5 is the MD5 of username:realm:password in 32 lower-case hex digits'),
        ('seat_ha1_sha256', 'seats', 'ha1_sha256 is the SHA-256 of username:realm:password in 64 lower-case hex digits'),
        ('blocks_pkey', 'blocks', 'a block with this prefix exists already'),
        ('block_account', 'blocks', 'the account of a block has to exist; delete the block before its account'),
        ('block_carrier', 'blocks', 'the carrier of a block has to exist; delete the block before its carrier'),
        ('block_served_account', 'blocks', 'the served_account of a block has to exist'),
        ('block_prefix', 'blocks', 'prefix is the beginning of an E.164 number with +, such as +49228386'),
        ('block_digits', 'blocks', 'digits is 1 to 6: how many follow the prefix'),
        ('block_number_length', 'blocks', 'prefix and digits together make numbers of 8 to 15 digits, in Germany of at most 14 with 49'),
        ('block_type', 'blocks', 'type is geographic, national, toll-free or mobile'),
        ('block_status', 'blocks', 'status is pending, active or cancelled'),
        ('block_channels', 'blocks', 'channels is 0 to 10000'),
        ('block_served_account_is_another', 'blocks', 'served_account is another account than the one that is billed'),
        ('blocks_do_not_overlap', 'blocks', 'a number can be in one block only'),
        ('ranges_pkey', 'ranges', 'a range with this prefix exists already'),
        ('range_block', 'ranges', 'the block of a range has to exist; delete its ranges before a block'),
        ('range_served_account', 'ranges', 'the served_account of a range has to exist'),
        ('range_prefix', 'ranges', 'prefix is the beginning of an E.164 number with +, such as +492283860'),
        ('range_in_block', 'ranges', 'a range begins with the prefix of its block'),
        ('range_status', 'ranges', 'status is pending, active or cancelled, or absent for that of the block'),
        ('range_channels', 'ranges', 'channels is 0 to 10000, or absent for that of the block'),
        ('range_route', 'ranges', 'route is seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status 400 to 699, or none'),
        ('range_on_busy', 'ranges', 'on_busy is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('range_on_no_answer', 'ranges', 'on_no_answer is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('range_no_answer_after', 'ranges', 'no_answer_after is 1 to 300 seconds'),
        ('range_on_unreachable', 'ranges', 'on_unreachable is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('range_on_limit', 'ranges', 'on_limit is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('ranges_do_not_overlap', 'ranges', 'a number can be in one range only'),
        ('numbers_pkey', 'numbers', 'this number exists already'),
        ('number_account', 'numbers', 'the account of a number has to exist; give its numbers away before an account is deleted'),
        ('number_carrier', 'numbers', 'the carrier of a number has to exist; move its numbers before a carrier is deleted'),
        ('number_served_account', 'numbers', 'the served_account of a number has to exist'),
        ('number_form', 'numbers', 'number is E.164 with + and 8 to 15 digits, such as +4922838600'),
        ('number_length', 'numbers', 'a German number has at most 14 digits with 49'),
        ('number_type', 'numbers', 'type is geographic, national, toll-free or mobile'),
        ('number_status', 'numbers', 'status is pending, active or cancelled'),
        ('number_channels', 'numbers', 'channels is 0 to 10000'),
        ('number_cli_prefix', 'numbers', 'cli_prefix is two digits, 10 to 99 (00 to 09 only where the account allows them)'),
        ('number_cli_prefix_once', 'numbers', 'cli_prefix belongs to one number of the account that uses it'),
        ('number_route', 'numbers', 'route is seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status 400 to 699, or none'),
        ('number_on_busy', 'numbers', 'on_busy is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('number_on_no_answer', 'numbers', 'on_no_answer is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('number_no_answer_after', 'numbers', 'no_answer_after is 1 to 300 seconds'),
        ('number_on_unreachable', 'numbers', 'on_unreachable is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('number_on_limit', 'numbers', 'on_limit is a route: seat, trunk, fax, forward to an E.164 number with +, extension, reject with a status, or none'),
        ('number_served_account_is_another', 'numbers', 'served_account is another account than the one that is billed'),
        ('external_numbers_pkey', 'external_numbers', 'the account has this external number already'),
        ('external_number_account', 'external_numbers', 'the account of an external number has to exist; delete the number before its account'),
        ('external_number_form', 'external_numbers', 'number is E.164 with + and 8 to 15 digits, such as +4922129191999; short and special numbers are not possible, contact support'),
        ('external_number_length', 'external_numbers', 'a German number has at most 14 digits with 49'),
        ('external_number_status', 'external_numbers', 'status is unverified, verified or revoked'),
        ('external_number_method', 'external_numbers', 'method is call, sms or support'),
        ('external_number_verified_at', 'external_numbers', 'a verified number has verified_at (when) and method (how)'),
        ('external_number_sms_needs_mobile', 'external_numbers', 'method sms is for mobile numbers only; verify a landline by call'),
        ('external_number_source', 'external_numbers', 'source is a word of lower-case letters, digits and hyphens, such as portal or control-hub'),
        ('fax_boxes_pkey', 'fax_boxes', 'a fax box of this name exists already in the account'),
        ('fax_box_account', 'fax_boxes', 'the account of a fax box has to exist; delete the box before its account'),
        ('fax_box_name', 'fax_boxes', 'name is 1 to 64 printable characters without blanks at its ends'),
        ('fax_box_email', 'fax_boxes', 'email is a mail address'),
        ('fax_box_station_id', 'fax_boxes', 'station_id is at most 20 digits, blanks and +')
    LOOP
        EXECUTE format('COMMENT ON CONSTRAINT %I ON sip_edge.%I IS %L', which, table_name, words);
    END LOOP;
END $$;

-- What is wrong with rows, all at once and in words: for portals that check a form, and for the provisioning document.

-- The broken rules of rows that are not stored yet; `candidates` is an array of objects with the table's columns.
CREATE FUNCTION sip_edge.check_rows(table_name text, candidates jsonb)
RETURNS TABLE (ordinal bigint, constraint_name text, rule text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    checks text;
BEGIN
    SELECT string_agg(format('(%L, %s)', conname, pg_get_expr(conbin, conrelid)), ', ' ORDER BY conname) INTO STRICT checks
    FROM pg_constraint
    WHERE contype = 'c' AND conrelid = format('sip_edge.%I', table_name)::regclass;
    RETURN QUERY EXECUTE format(
        'SELECT c.n, v.name::text, sip_edge.rule(v.name)
         FROM jsonb_array_elements($1) WITH ORDINALITY AS c (row, n),
              jsonb_populate_record(NULL::sip_edge.%I, c.row) AS t,
              LATERAL (VALUES %s) AS v (name, holds)
         WHERE NOT v.holds ORDER BY c.n, v.name',
        table_name, checks
    ) USING candidates;
END $$;

-- The broken rules between rows, of rows that are stored (perhaps only within this transaction). `keys` is an array of
-- arrays with the values of the table's key.
CREATE FUNCTION sip_edge.faults_of(table_name text, keys jsonb)
RETURNS TABLE (ordinal bigint, fault text) LANGUAGE plpgsql STABLE AS $$
BEGIN
    CASE table_name
        WHEN 'carriers' THEN
            RETURN QUERY SELECT k.n, sip_edge.carrier_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.carriers t ON t.name = k.key ->> 0;
        WHEN 'accounts' THEN
            RETURN QUERY SELECT k.n, sip_edge.account_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.accounts t ON t.id = k.key ->> 0;
        WHEN 'trunks' THEN
            RETURN QUERY SELECT k.n, sip_edge.trunk_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.trunks t ON t.account = k.key ->> 0 AND t.name = k.key ->> 1;
        WHEN 'seats' THEN
            RETURN QUERY SELECT k.n, sip_edge.seat_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.seats t ON t.username = k.key ->> 0;
        WHEN 'blocks' THEN
            RETURN QUERY SELECT k.n, sip_edge.block_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.blocks t ON t.prefix = k.key ->> 0;
        WHEN 'ranges' THEN
            RETURN QUERY SELECT k.n, sip_edge.range_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.ranges t ON t.prefix = k.key ->> 0;
        WHEN 'numbers' THEN
            RETURN QUERY SELECT k.n, sip_edge.number_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.numbers t ON t.number = k.key ->> 0;
        WHEN 'external_numbers' THEN
            RETURN QUERY SELECT k.n, sip_edge.external_number_faults(t) FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            JOIN sip_edge.external_numbers t ON t.account = k.key ->> 0 AND t.number = k.key ->> 1;
        WHEN 'fax_boxes' THEN
            RETURN QUERY SELECT k.n, format('account %s does not exist', k.key ->> 0)
            FROM jsonb_array_elements(keys) WITH ORDINALITY AS k (key, n)
            WHERE NOT EXISTS (SELECT FROM sip_edge.accounts WHERE id = k.key ->> 0);
    END CASE;
END $$;
