-- How an edge talks to the channel counts (docs/channels.md): one `resume` when it connects, then one `exchange` after the
-- other. Every count is the sum of its leases, always: both change in one transaction.
--
-- `epoch` numbers an edge's connections. What was sent over an earlier one and is carried out late finds another epoch and
-- does nothing, so an edge may give up a statement and tell the whole truth over a new connection.

ALTER TABLE sip_edge.edges ADD COLUMN epoch integer NOT NULL DEFAULT 0;

-- Direction `cps` of a carrier: no lease, `used` stays 0; `starts` are the calls begun within the last second.
ALTER TABLE sip_edge.channel_usage ADD COLUMN starts timestamptz[];

CREATE TYPE sip_edge.lease AS (call_id text, level text, key text, direction text, units integer);
-- `ask` numbers the calls that ask, from 1, claims of one ask stand together; `row_no` numbers the rows asked for, from 1.
CREATE TYPE sip_edge.claim AS (
    ask integer, row_no integer, call_id text, level text, key text, direction text, units integer, bound integer
);

-- Locks the rows of the counts, in the order of their keys, and makes those that are missing. Internal.
CREATE FUNCTION sip_edge.lock_rows(rows sip_edge.lease[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sip_edge.channel_usage (level, key, direction)
    SELECT DISTINCT r.level, r.key, r.direction FROM unnest(rows) r
    WHERE NOT EXISTS (
        SELECT FROM sip_edge.channel_usage u WHERE u.level = r.level AND u.key = r.key AND u.direction = r.direction
    )
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;
    PERFORM FROM (SELECT DISTINCT r.level, r.key, r.direction FROM unnest(rows) r) AS r
    JOIN sip_edge.channel_usage u ON u.level = r.level AND u.key = r.key AND u.direction = r.direction
    ORDER BY u.level, u.key, u.direction
    FOR UPDATE OF u;
END $$;

-- Makes leases of an edge what they are to be (units 0: none) and moves the counts, whose rows the caller has locked, by
-- the difference. Internal.
CREATE FUNCTION sip_edge.set_leases(edge uuid, leases sip_edge.lease[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH wanted AS (
        SELECT w.*, coalesce(l.units, 0) AS had FROM unnest(leases) w
        LEFT JOIN sip_edge.channel_leases l ON l.instance = edge AND l.call_id = w.call_id
            AND l.level = w.level AND l.key = w.key AND l.direction = w.direction
    ), gone AS (
        DELETE FROM sip_edge.channel_leases l USING wanted w
        WHERE w.units = 0 AND w.had > 0 AND l.instance = edge AND l.call_id = w.call_id
            AND l.level = w.level AND l.key = w.key AND l.direction = w.direction
    ), put AS (
        INSERT INTO sip_edge.channel_leases (instance, call_id, level, key, direction, units)
        SELECT edge, w.call_id, w.level, w.key, w.direction, w.units FROM wanted w WHERE w.units > 0 AND w.units <> w.had
        ON CONFLICT (instance, call_id, level, key, direction) DO UPDATE SET units = excluded.units
    )
    UPDATE sip_edge.channel_usage u SET used = u.used + s.units
    FROM (
        SELECT w.level, w.key, w.direction, sum(w.units - w.had) AS units FROM wanted w GROUP BY 1, 2, 3
    ) AS s
    WHERE u.level = s.level AND u.key = s.key AND u.direction = s.direction AND s.units <> 0;
END $$;

-- What happened on an edge since it last spoke, and which of its calls want in. Also its heartbeat.
--
-- `leases` first: what these are now, whatever the limits. Then `claims`: each ask gets all that it claims or nothing, in
-- their order. `known` false: this connection or this edge was given up, nothing was done, it has to `resume`.
-- `against`, one per ask: 0 admitted, else which of its claims (from 1) stands against it; `in_use`: of that row.
CREATE FUNCTION sip_edge.exchange(
    edge uuid, edge_epoch integer, leases sip_edge.lease[], claims sip_edge.claim[],
    OUT known boolean, OUT against integer[], OUT in_use integer[]
) LANGUAGE plpgsql AS $$
DECLARE
    used integer[];
    claim sip_edge.claim;
    done sip_edge.claim;
    taken sip_edge.claim[] := '{}';
    ask integer := 0;
    nth integer;
    refused boolean;
BEGIN
    UPDATE sip_edge.edges SET heartbeat_at = clock_timestamp()
    WHERE instance = edge AND epoch = edge_epoch AND NOT lost;
    known := FOUND;
    against := '{}';
    in_use := '{}';
    IF NOT known OR cardinality(leases) + cardinality(claims) = 0 THEN
        RETURN;
    END IF;
    PERFORM sip_edge.lock_rows(
        leases || ARRAY(SELECT (c.call_id, c.level, c.key, c.direction, c.units)::sip_edge.lease FROM unnest(claims) c)
    );
    IF cardinality(leases) > 0 THEN
        PERFORM sip_edge.set_leases(edge, leases);
    END IF;
    IF cardinality(claims) = 0 THEN
        RETURN;
    END IF;

    SELECT array_agg(
        CASE WHEN r.direction = 'cps'
            THEN (SELECT count(*) FROM unnest(u.starts) AS s WHERE s > clock_timestamp() - interval '1 second')
            ELSE u.used
        END ORDER BY r.row_no
    ) INTO used
    FROM (SELECT DISTINCT c.row_no, c.level, c.key, c.direction FROM unnest(claims) c) AS r
    JOIN sip_edge.channel_usage u ON u.level = r.level AND u.key = r.key AND u.direction = r.direction;

    FOREACH claim IN ARRAY claims LOOP
        IF claim.ask <> ask THEN
            ask := claim.ask;
            nth := 0;
            refused := false;
            against[ask] := 0;
            in_use[ask] := 0;
            taken := '{}';
        END IF;
        nth := nth + 1;
        CONTINUE WHEN refused;
        IF used[claim.row_no] + claim.units > claim.bound THEN
            refused := true;
            against[ask] := nth;
            in_use[ask] := used[claim.row_no];
            FOREACH done IN ARRAY taken LOOP
                used[done.row_no] := used[done.row_no] - done.units;
            END LOOP;
        ELSE
            used[claim.row_no] := used[claim.row_no] + claim.units;
            taken := taken || claim;
        END IF;
    END LOOP;

    WITH admitted AS (
        SELECT c.call_id, c.level, c.key, c.direction, sum(c.units) AS units
        FROM unnest(claims) c WHERE against[c.ask] = 0 GROUP BY 1, 2, 3, 4
    ), put AS (
        INSERT INTO sip_edge.channel_leases AS l (instance, call_id, level, key, direction, units)
        SELECT edge, a.call_id, a.level, a.key, a.direction, a.units FROM admitted a WHERE a.direction <> 'cps'
        ON CONFLICT (instance, call_id, level, key, direction) DO UPDATE SET units = l.units + excluded.units
    )
    UPDATE sip_edge.channel_usage u SET
        used = u.used + CASE WHEN u.direction = 'cps' THEN 0 ELSE s.units END,
        starts = CASE WHEN u.direction = 'cps' THEN
            ARRAY(SELECT t FROM unnest(u.starts) AS t WHERE t > clock_timestamp() - interval '1 second')
            || array_fill(clock_timestamp(), ARRAY[s.units::integer])
        END
    FROM (SELECT a.level, a.key, a.direction, sum(a.units) AS units FROM admitted a GROUP BY 1, 2, 3) AS s
    WHERE u.level = s.level AND u.key = s.key AND u.direction = s.direction;
END $$;

-- An edge has a new connection: `held` is all that its live calls hold, counted whatever the limits. `fresh`: its process
-- is new, so earlier ones of the same name are no more and what they held is given back. False: a later connection has
-- spoken already, nothing was done.
CREATE FUNCTION sip_edge.resume(
    edge uuid, edge_name text, edge_epoch integer, fresh boolean, held sip_edge.lease[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    old uuid[];
    leases sip_edge.lease[];
BEGIN
    IF fresh THEN
        old := ARRAY(
            SELECT instance FROM (
                SELECT instance FROM sip_edge.edges WHERE name = edge_name AND instance <> edge
                ORDER BY instance FOR UPDATE
            ) AS locked
        );
        PERFORM sip_edge.give_back(old);
        DELETE FROM sip_edge.live_calls WHERE instance = ANY (old);
        DELETE FROM sip_edge.edges WHERE instance = ANY (old);
    END IF;
    INSERT INTO sip_edge.edges AS e (instance, name, started_at, heartbeat_at, epoch)
    VALUES (edge, edge_name, clock_timestamp(), clock_timestamp(), edge_epoch)
    ON CONFLICT (instance) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, epoch = excluded.epoch, lost = false
    WHERE e.epoch < excluded.epoch;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    leases := held || ARRAY(
        SELECT (l.call_id, l.level, l.key, l.direction, 0)::sip_edge.lease FROM (
            SELECT call_id, level, key, direction FROM sip_edge.channel_leases WHERE instance = edge
            EXCEPT SELECT call_id, level, key, direction FROM unnest(held)
        ) AS l
    );
    PERFORM sip_edge.lock_rows(leases);
    PERFORM sip_edge.set_leases(edge, leases);
    RETURN true;
END $$;

-- Makes counts that are not the sum of their leases so again: somebody has changed the tables by hand. Returns how many.
CREATE FUNCTION sip_edge.recount() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    wrong bigint;
BEGIN
    -- one snapshot: no count is seen without its leases, so what differs is wrong and no lock is needed to say so
    SELECT count(*) INTO wrong FROM sip_edge.channel_usage u FULL JOIN (
        SELECT level, key, direction, sum(units) AS units FROM sip_edge.channel_leases GROUP BY 1, 2, 3
    ) AS s ON s.level = u.level AND s.key = u.key AND s.direction = u.direction
    WHERE coalesce(u.used, 0) <> coalesce(s.units, 0);
    IF wrong = 0 THEN
        RETURN 0;
    END IF;
    LOCK TABLE sip_edge.channel_usage IN EXCLUSIVE MODE;
    INSERT INTO sip_edge.channel_usage AS u (level, key, direction, used)
    SELECT level, key, direction, sum(units) FROM sip_edge.channel_leases GROUP BY 1, 2, 3
    ON CONFLICT (level, key, direction) DO UPDATE SET used = excluded.used WHERE u.used <> excluded.used;
    UPDATE sip_edge.channel_usage u SET used = 0
    WHERE used <> 0 AND NOT EXISTS (
        SELECT FROM sip_edge.channel_leases l WHERE l.level = u.level AND l.key = u.key AND l.direction = u.direction
    );
    RETURN wrong;
END $$;
