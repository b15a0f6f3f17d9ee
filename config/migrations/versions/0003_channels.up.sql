-- Channels: how many calls each number, trunk, account and carrier has, exact over all edges (domain section 5).
--
-- channel_usage counts; channel_leases says which call of which edge holds what. The count changes only together with
-- leases, under locks on the count's rows taken in the order of their keys, so edges cannot deadlock. A lease lives as
-- long as its edge: an edge whose heartbeat is older than 20 s has lost its leases to whoever reclaims first.

CREATE TABLE sip_edge.channel_usage (
    level     text NOT NULL,
    key       text NOT NULL,
    direction text NOT NULL,
    used      integer NOT NULL DEFAULT 0 CHECK (used >= 0),
    PRIMARY KEY (level, key, direction)
) WITH (fillfactor = 50);

CREATE TABLE sip_edge.channel_leases (
    instance  uuid NOT NULL REFERENCES sip_edge.edges,
    call_id   text NOT NULL,
    level     text NOT NULL CHECK (level IN ('number', 'trunk', 'account', 'carrier')),
    key       text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('in', 'out', 'total')),
    units     integer NOT NULL CHECK (units > 0),
    taken_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance, call_id, level, key, direction)
);

-- Give back all leases of `edges`; returns their number. Internal.
CREATE FUNCTION sip_edge.give_back(edges uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    PERFORM FROM sip_edge.channel_usage u
    WHERE (u.level, u.key, u.direction) IN (
        SELECT l.level, l.key, l.direction FROM sip_edge.channel_leases l
        WHERE l.instance = ANY (edges)
    )
    ORDER BY u.level, u.key, u.direction
    FOR UPDATE;
    WITH gone AS (
        DELETE FROM sip_edge.channel_leases l
        WHERE l.instance = ANY (edges)
        RETURNING l.level, l.key, l.direction, l.units
    ), sums AS (
        SELECT level, key, direction, sum(units) AS units FROM gone GROUP BY level, key, direction
    ), counted AS (
        UPDATE sip_edge.channel_usage u SET used = u.used - s.units FROM sums s
        WHERE (u.level, u.key, u.direction) = (s.level, s.key, s.direction)
    )
    SELECT count(*) INTO given FROM gone;
    RETURN given;
END $$;

-- An edge has stopped cleanly.
CREATE FUNCTION sip_edge.leave(edge uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sip_edge.edges WHERE instance = edge FOR UPDATE;
    PERFORM sip_edge.give_back(ARRAY[edge]);
    DELETE FROM sip_edge.live_calls WHERE instance = leave.edge;
    DELETE FROM sip_edge.edges WHERE instance = leave.edge;
END $$;

-- Give back the channels of edges that were silent for `silence`; every edge calls it with its heartbeat. Returns the
-- number of leases that came back.
CREATE FUNCTION sip_edge.reclaim(silence interval DEFAULT interval '20 seconds') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    dead uuid[];
BEGIN
    dead := ARRAY(
        SELECT instance FROM (
            SELECT instance FROM sip_edge.edges WHERE heartbeat_at < clock_timestamp() - silence
            ORDER BY instance FOR UPDATE SKIP LOCKED
        ) AS locked
    );
    IF dead = '{}' THEN
        RETURN 0;
    END IF;
    UPDATE sip_edge.edges SET lost = true WHERE instance = ANY (dead) AND NOT lost;
    DELETE FROM sip_edge.live_calls WHERE instance = ANY (dead);
    RETURN sip_edge.give_back(dead);
END $$;
