-- An edge that is the only one need not ask for each call (docs/channels.md): until `alone_until` it decides by itself
-- and tells afterwards. Whoever joins has to wait until that is over, or was given up.

ALTER TABLE sip_edge.edges ADD COLUMN alone_until timestamptz;

-- `exchange`, and whether the edge is alone until 4 s from now, if it wants to `stay` so; where it does not, nobody need
-- wait for it any more. The row of the edge is locked by then and is so until the end of the transaction, and the look at
-- the others is a later statement: it sees everybody whose `alone_elsewhere` did not wait for this.
CREATE FUNCTION sip_edge.exchange_or_alone(
    edge uuid, edge_epoch integer, leases sip_edge.lease[], claims sip_edge.claim[], stay boolean,
    OUT known boolean, OUT against integer[], OUT in_use integer[], OUT alone boolean
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT e.known, e.against, e.in_use INTO known, against, in_use
    FROM sip_edge.exchange(edge, edge_epoch, leases, claims) e;
    alone := known AND stay AND NOT EXISTS (SELECT FROM sip_edge.edges o WHERE o.instance <> edge AND NOT o.lost);
    UPDATE sip_edge.edges e SET alone_until = CASE WHEN alone THEN clock_timestamp() + interval '4 seconds' END
    WHERE e.instance = edge AND (alone OR NOT stay AND e.alone_until IS NOT NULL);
END $$;

-- Whether another edge decides by itself. To be asked by an edge that has joined (`resume`), in a statement of its own.
CREATE FUNCTION sip_edge.alone_elsewhere(edge uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sip_edge.edges e WHERE e.instance <> edge AND NOT e.lost ORDER BY e.instance FOR SHARE;
    PERFORM pg_notify('sip_edge_joined', edge::text);
    RETURN EXISTS (
        SELECT FROM sip_edge.edges e WHERE e.instance <> edge AND NOT e.lost AND e.alone_until > clock_timestamp()
    );
END $$;
