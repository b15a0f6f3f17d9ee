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
