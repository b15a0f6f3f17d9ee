-- Trunks that are known by a certificate alone cannot be told without it: give them sources before.

CREATE OR REPLACE FUNCTION sip_edge.trunk_faults(t sip_edge.trunks) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
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

ALTER TABLE sip_edge.trunks
    DROP CONSTRAINT trunk_static_needs_sources,
    DROP certificate,
    DROP address,
    ADD CONSTRAINT trunk_static_needs_sources CHECK (mode <> 'static' OR sources <> '{}');
COMMENT ON CONSTRAINT trunk_static_needs_sources ON sip_edge.trunks IS 'mode static needs sources: the addresses or networks of the PBX';
