-- Carriers with several outbound proxies (domain rule T1.23): a primary and those to fall back on.

ALTER TABLE sip_edge.carriers
    ADD secondary_proxies text[] NOT NULL DEFAULT '{}',
    ADD register_with     text NOT NULL DEFAULT 'first',
    ADD CONSTRAINT carrier_secondary_proxies CHECK (array_position(secondary_proxies, NULL) IS NULL
        AND array_to_string(secondary_proxies, ' ') ~ '^(sips?:[^[:space:]]+( |$))*$' AND cardinality(secondary_proxies) <= 7),
    ADD CONSTRAINT carrier_secondary_needs_primary CHECK (secondary_proxies = '{}' OR outbound_proxy IS NOT NULL),
    ADD CONSTRAINT carrier_register_with CHECK (register_with IN ('first', 'all'));
COMMENT ON COLUMN sip_edge.carriers.secondary_proxies IS 'outbound proxies after outbound_proxy, in the order to try them';
COMMENT ON COLUMN sip_edge.carriers.register_with IS 'first: with the first proxy that takes us; all: with every one';
COMMENT ON CONSTRAINT carrier_secondary_proxies ON sip_edge.carriers IS 'secondary_proxies are up to 7 SIP URIs, such as sip:proxy.example;transport=tls';
COMMENT ON CONSTRAINT carrier_secondary_needs_primary ON sip_edge.carriers IS 'secondary_proxies need an outbound_proxy, which is the first';
COMMENT ON CONSTRAINT carrier_register_with ON sip_edge.carriers IS 'register_with is first or all';
