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

CREATE FUNCTION sip_edge.lock_usage(levels text[], keys text[], directions text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sip_edge.channel_usage u
    WHERE (u.level, u.key, u.direction) IN (SELECT * FROM unnest(levels, keys, directions))
    ORDER BY u.level, u.key, u.direction
    FOR UPDATE;
END $$;

-- Admit calls of one edge. The arrays are parallel, one element per claim; claims of a call stand together in the order
-- in which limits are asked. A limit of NULL counts and never refuses. Each call gets all of its claims or none: one row
-- per call, with the first exceeded claim where it was refused. Claims add to what the call holds already.
CREATE FUNCTION sip_edge.admit(
    edge uuid, call_ids text[], levels text[], keys text[], directions text[], units integer[], limits integer[]
) RETURNS TABLE (call_id text, admitted boolean, level text, key text, direction text, limit_value integer, used integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    call record;
    over record;
BEGIN
    INSERT INTO sip_edge.channel_usage AS u (level, key, direction)
    SELECT DISTINCT c.level, c.key, c.direction FROM unnest(levels, keys, directions) AS c (level, key, direction)
    WHERE NOT EXISTS (
        SELECT FROM sip_edge.channel_usage x WHERE (x.level, x.key, x.direction) = (c.level, c.key, c.direction)
    )
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;
    PERFORM sip_edge.lock_usage(levels, keys, directions);

    FOR call IN
        SELECT c.id, min(c.n) AS first, max(c.n) AS last
        FROM unnest(call_ids) WITH ORDINALITY AS c (id, n) GROUP BY c.id ORDER BY min(c.n)
    LOOP
        SELECT c.level, c.key, c.direction, c.bound, u.used INTO over
        FROM (
            SELECT c.level, c.key, c.direction, sum(c.units) AS units, min(c.bound) AS bound, min(c.n) AS n
            FROM unnest(call_ids, levels, keys, directions, units, limits)
                WITH ORDINALITY AS c (id, level, key, direction, units, bound, n)
            WHERE c.n BETWEEN call.first AND call.last AND c.id = call.id
            GROUP BY c.level, c.key, c.direction
        ) AS c
        JOIN sip_edge.channel_usage u ON (u.level, u.key, u.direction) = (c.level, c.key, c.direction)
        WHERE u.used + c.units > c.bound
        ORDER BY c.n LIMIT 1;
        IF FOUND THEN
            RETURN QUERY SELECT call.id, false, over.level, over.key, over.direction, over.bound, over.used;
            CONTINUE;
        END IF;
        WITH taken AS (
            INSERT INTO sip_edge.channel_leases AS l (instance, call_id, level, key, direction, units)
            SELECT edge, call.id, c.level, c.key, c.direction, sum(c.units)
            FROM unnest(call_ids, levels, keys, directions, units)
                WITH ORDINALITY AS c (id, level, key, direction, units, n)
            WHERE c.n BETWEEN call.first AND call.last AND c.id = call.id
            GROUP BY c.level, c.key, c.direction
            ON CONFLICT (instance, call_id, level, key, direction) DO UPDATE SET units = l.units + excluded.units
        )
        UPDATE sip_edge.channel_usage u SET used = u.used + c.units
        FROM (
            SELECT c.level, c.key, c.direction, sum(c.units) AS units
            FROM unnest(call_ids, levels, keys, directions, units)
                WITH ORDINALITY AS c (id, level, key, direction, units, n)
            WHERE c.n BETWEEN call.first AND call.last AND c.id = call.id
            GROUP BY c.level, c.key, c.direction
        ) AS c
        WHERE (u.level, u.key, u.direction) = (c.level, c.key, c.direction);
        RETURN QUERY SELECT call.id, true, NULL::text, NULL::text, NULL::text, NULL::integer, NULL::integer;
    END LOOP;
END $$;

-- Give back leases of `edges`: of some calls, of one level, or all of them. Internal.
CREATE FUNCTION sip_edge.give_back(edges uuid[], call_ids text[], only_level text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    PERFORM FROM sip_edge.channel_usage u
    WHERE (u.level, u.key, u.direction) IN (
        SELECT l.level, l.key, l.direction FROM sip_edge.channel_leases l
        WHERE l.instance = ANY (edges) AND (call_ids IS NULL OR l.call_id = ANY (call_ids))
          AND (only_level IS NULL OR l.level = only_level)
    )
    ORDER BY u.level, u.key, u.direction
    FOR UPDATE;
    WITH gone AS (
        DELETE FROM sip_edge.channel_leases l
        WHERE l.instance = ANY (edges) AND (call_ids IS NULL OR l.call_id = ANY (call_ids))
          AND (only_level IS NULL OR l.level = only_level)
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

-- Give back what the calls of one edge hold; of `only_level` alone where it is named (a carrier that was tried in vain).
-- Calls that hold nothing are no error: releasing twice gives back once. Returns the number of leases.
CREATE FUNCTION sip_edge.release(edge uuid, call_ids text[], only_level text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    SELECT sip_edge.give_back(ARRAY[edge], coalesce(call_ids, '{}'), only_level)
$$;

-- An edge has started, or comes back after it was given up. An earlier process of the same name is no more. What either
-- held is given back: an edge that comes back admits its live calls anew, with limits of NULL. Returns the leases given back.
CREATE FUNCTION sip_edge.enter(edge uuid, edge_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    old uuid[];
    given bigint;
BEGIN
    old := ARRAY(
        SELECT instance FROM (
            SELECT instance FROM sip_edge.edges WHERE name = edge_name OR instance = edge ORDER BY instance FOR UPDATE
        ) AS locked
    );
    given := sip_edge.give_back(old, NULL, NULL);
    DELETE FROM sip_edge.live_calls WHERE instance = ANY (old);
    DELETE FROM sip_edge.edges WHERE instance = ANY (old);
    INSERT INTO sip_edge.edges (instance, name, started_at, heartbeat_at)
    VALUES (edge, edge_name, clock_timestamp(), clock_timestamp());
    RETURN given;
END $$;

-- An edge has stopped cleanly.
CREATE FUNCTION sip_edge.leave(edge uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sip_edge.edges WHERE instance = edge FOR UPDATE;
    PERFORM sip_edge.give_back(ARRAY[edge], NULL, NULL);
    DELETE FROM sip_edge.live_calls WHERE instance = leave.edge;
    DELETE FROM sip_edge.edges WHERE instance = leave.edge;
END $$;

-- The edge lives; to be called every few seconds. False: it was silent for so long that its leases were given back; it
-- has to `enter` again and to `admit` its live calls anew, with limits of NULL.
CREATE FUNCTION sip_edge.renew(edge uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sip_edge.edges SET heartbeat_at = clock_timestamp() WHERE instance = edge AND NOT lost;
    RETURN FOUND;
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
    RETURN sip_edge.give_back(dead, NULL, NULL);
END $$;
