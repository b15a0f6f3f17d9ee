-- A static PBX that is known by the certificate it shows over TLS, and where calls to a static PBX go.

ALTER TABLE sip_edge.trunks
    ADD certificate text,
    ADD address     text,
    DROP CONSTRAINT trunk_static_needs_sources,
    ADD CONSTRAINT trunk_static_needs_sources CHECK (mode <> 'static' OR sources <> '{}' OR certificate IS NOT NULL),
    ADD CONSTRAINT trunk_certificate_once UNIQUE (certificate) DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT trunk_certificate CHECK (certificate ~ '^[a-z0-9]([a-z0-9.:_-]{0,253}[a-z0-9])?$'),
    ADD CONSTRAINT trunk_certificate_is_static CHECK (certificate IS NULL OR mode = 'static'),
    ADD CONSTRAINT trunk_address CHECK (address ~ '^sips?:[^[:space:]@]+$'),
    ADD CONSTRAINT trunk_address_is_static CHECK (address IS NULL OR mode = 'static');
COMMENT ON COLUMN sip_edge.trunks.certificate IS 'the name in the certificate of a static PBX: calls over TLS connections that show it are the trunk''s';
COMMENT ON COLUMN sip_edge.trunks.address IS 'SIP URI that calls to a static PBX go to; NULL: its one source, or the connection that it holds open';
COMMENT ON CONSTRAINT trunk_static_needs_sources ON sip_edge.trunks IS 'mode static needs sources (the addresses or networks of the PBX) or a certificate';
COMMENT ON CONSTRAINT trunk_certificate_once ON sip_edge.trunks IS 'certificate belongs to one trunk';
COMMENT ON CONSTRAINT trunk_certificate ON sip_edge.trunks IS 'certificate is a host name or address in lower case, as the subjectAltName of the PBX''s certificate has it';
COMMENT ON CONSTRAINT trunk_certificate_is_static ON sip_edge.trunks IS 'certificate needs mode static: who registers is known by its password';
COMMENT ON CONSTRAINT trunk_address ON sip_edge.trunks IS 'address is a SIP URI without a user, such as sip:pbx.example:5081;transport=tls';
COMMENT ON CONSTRAINT trunk_address_is_static ON sip_edge.trunks IS 'address needs mode static: who registers says where it is';

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
    SELECT o.account || '/' || o.name INTO other FROM sip_edge.trunks o
    WHERE o.certificate = t.certificate AND (o.account, o.name) <> (t.account, t.name);
    IF FOUND THEN
        RETURN NEXT format('certificate %s is already that of trunk %s', t.certificate, other);
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
        WHERE (o.account, o.name) <> (t.account, t.name) AND ours && theirs
            AND (o.certificate IS NULL OR t.certificate IS NULL) LIMIT 1;
        IF FOUND THEN
            RETURN NEXT format('an address of its sources is also one of trunk %s: a call from there could belong to either, unless both are known by their certificates', other);
        END IF;
        SELECT o.name INTO other FROM sip_edge.carriers o, unnest(o.sources) AS theirs, unnest(t.sources) AS ours
        WHERE ours && theirs LIMIT 1;
        IF FOUND THEN
            RETURN NEXT format('an address of its sources is also one of carrier %s: a call from there could belong to either', other);
        END IF;
    END IF;
    RETURN QUERY SELECT sip_edge.element_faults(t.account, t.name);
END $$;
