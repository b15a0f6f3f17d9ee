DROP TABLE sip_edge.fax_boxes, sip_edge.external_numbers, sip_edge.numbers, sip_edge.ranges, sip_edge.blocks,
    sip_edge.seats, sip_edge.trunks, sip_edge.accounts, sip_edge.carriers, sip_edge.settings,
    sip_edge.emergency_numbers, sip_edge.short_codes, sip_edge.never_shown CASCADE;

-- Functions that take a row went with their tables.
DO $$
DECLARE
    functions text;
BEGIN
    SELECT string_agg(oid::regprocedure::text, ', ') INTO functions
    FROM pg_proc WHERE pronamespace = 'sip_edge'::regnamespace;
    EXECUTE 'DROP FUNCTION ' || functions;
END $$;
