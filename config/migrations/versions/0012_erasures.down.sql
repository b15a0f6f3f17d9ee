DROP FUNCTION sip_edge.privacy_export(text);
DROP FUNCTION sip_edge.privacy_erase(text);
DROP FUNCTION sip_edge.erase_again(bigint);
DROP FUNCTION sip_edge.erase_rows(text, text[], text[], text[], text[]);
DROP FUNCTION sip_edge.digest(text, text);
DROP FUNCTION sip_edge.numbers_of(text);
DROP TABLE sip_edge.erasures;
CREATE INDEX call_records_refused ON sip_edge.call_records (ended_at) WHERE outcome = 'refused';

CREATE FUNCTION sip_edge.purge_refused_calls(at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    -- the call record of a refused call says the same and is not billed: it goes with it
    WITH records AS (
        DELETE FROM sip_edge.call_records WHERE outcome = 'refused' AND ended_at <= at_time - interval '7 days'
    ), gone AS (DELETE FROM sip_edge.refused_calls WHERE at <= at_time - interval '7 days' RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_call_records(keep interval, at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM sip_edge.call_records WHERE ended_at <= at_time - keep RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_registrations(at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM sip_edge.registrations WHERE expires_at <= at_time RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_fax_content(grace interval, at_time timestamptz DEFAULT now()) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        UPDATE sip_edge.faxes f SET content = NULL FROM sip_edge.fax_mails m
        WHERE m.fax = f.id AND m.state = 'delivered' AND m.delivered_at <= at_time - grace AND f.content IS NOT NULL
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

CREATE FUNCTION sip_edge.purge_leftovers(keep_calls interval, at_time timestamptz DEFAULT now())
RETURNS TABLE (what text, gone bigint) LANGUAGE plpgsql AS $$
BEGIN
    -- not needed for billing: what is left is for finding faults, which may take seven days
    what := 'unanswered-calls';
    DELETE FROM sip_edge.call_records WHERE answered_at IS NULL AND ended_at <= at_time - interval '7 days';
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'call-details';
    UPDATE sip_edge.call_records SET trace = NULL, attempts = NULL, a_call_id = NULL, b_call_id = NULL, dialled = NULL
    WHERE trace IS NOT NULL AND ended_at <= at_time - interval '7 days';
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;

    -- content goes after its delivery and a grace; what nobody could deliver, and what was sent, does not stay for ever
    what := 'fax-documents';
    UPDATE sip_edge.faxes f SET content = NULL WHERE content IS NOT NULL AND CASE
        WHEN EXISTS (SELECT FROM sip_edge.fax_mails m WHERE m.fax = f.id) THEN EXISTS (
            SELECT FROM sip_edge.fax_mails m WHERE m.fax = f.id AND (
                m.state = 'delivered' AND m.delivered_at <= at_time - interval '7 days'
                OR m.state = 'failed' AND f.started_at <= at_time - interval '30 days'))
        ELSE coalesce(f.ended_at, f.started_at) <= at_time - interval '7 days' END;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'faxes';
    DELETE FROM sip_edge.faxes WHERE content IS NULL AND coalesce(ended_at, started_at) <= at_time - keep_calls;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;

    -- leftovers of phones that vanished and edges that died
    what := 'registrations';
    DELETE FROM sip_edge.registrations WHERE expires_at <= at_time - interval '1 hour';
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'live-calls';
    DELETE FROM sip_edge.live_calls l WHERE l.started_at <= at_time - interval '1 hour' AND NOT EXISTS (
        SELECT FROM sip_edge.edges e
        WHERE e.instance = l.instance AND NOT e.lost AND e.heartbeat_at > at_time - interval '1 hour');
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'carrier-states';
    DELETE FROM sip_edge.carrier_states s WHERE s.since <= at_time - interval '7 days' AND NOT EXISTS (
        SELECT FROM sip_edge.edges e WHERE e.name = s.edge AND e.heartbeat_at > at_time - interval '7 days');
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'edges';
    DELETE FROM sip_edge.edges e WHERE e.heartbeat_at <= at_time - interval '7 days'
        AND NOT EXISTS (SELECT FROM sip_edge.channel_leases c WHERE c.instance = e.instance);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
END
$$;

CREATE FUNCTION sip_edge.privacy_export(seat text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    WITH numbers AS (
        SELECT s.primary_number AS number FROM sip_edge.seats s WHERE s.username = seat AND s.primary_number IS NOT NULL
        UNION SELECT n.number FROM sip_edge.numbers n WHERE n.route_kind = 'seat' AND n.route_target = seat
    )
    SELECT jsonb_build_object(
        'seat', (SELECT to_jsonb(s) - 'ha1_md5' - 'ha1_sha256' FROM sip_edge.seats s WHERE s.username = seat),
        'numbers', (SELECT coalesce(jsonb_agg(number), '[]') FROM numbers),
        'registrations', (SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]') FROM sip_edge.registrations r
            WHERE r.aor_kind = 'seat' AND r.aor = seat),
        'live_calls', (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM sip_edge.live_calls l
            WHERE l.source_kind = 'seat' AND l.source_name = seat OR l.target_kind = 'seat' AND l.target_name = seat),
        'calls', (SELECT coalesce(jsonb_agg(CASE
                -- a caller who withheld his number is somebody else's data
                WHEN c.caller_withheld AND NOT (c.source_kind = 'seat' AND c.source_name = seat)
                THEN to_jsonb(c) - 'caller' - 'network_number' - 'trace' - 'attempts' ELSE to_jsonb(c) END
                ORDER BY c.started_at), '[]')
            FROM sip_edge.call_records c
            WHERE c.source_kind = 'seat' AND c.source_name = seat OR c.target_kind = 'seat' AND c.target_name = seat),
        'refused_calls', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.at), '[]') FROM sip_edge.refused_calls x
            WHERE x.caller IN (SELECT number FROM numbers) OR x.number IN (SELECT number FROM numbers)
                OR x.id IN (SELECT c.id FROM sip_edge.call_records c WHERE c.source_kind = 'seat' AND c.source_name = seat)),
        'faxes', (SELECT coalesce(jsonb_agg(to_jsonb(f) - 'content' ORDER BY f.started_at), '[]') FROM sip_edge.faxes f
            WHERE f.direction = 'out' AND f.number IN (SELECT number FROM numbers))
    )
$$;

CREATE FUNCTION sip_edge.privacy_erase(seat text) RETURNS TABLE (what text, gone bigint) LANGUAGE plpgsql AS $$
DECLARE
    own text[] := ARRAY(
        SELECT s.primary_number FROM sip_edge.seats s WHERE s.username = seat AND s.primary_number IS NOT NULL
        UNION SELECT n.number FROM sip_edge.numbers n WHERE n.route_kind = 'seat' AND n.route_target = seat);
    calls text[] := ARRAY(SELECT c.id FROM sip_edge.call_records c
        WHERE c.source_kind = 'seat' AND c.source_name = seat OR c.target_kind = 'seat' AND c.target_name = seat);
BEGIN
    what := 'registrations';
    DELETE FROM sip_edge.registrations r WHERE r.aor_kind = 'seat' AND r.aor = seat;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'refused calls';
    DELETE FROM sip_edge.refused_calls x WHERE x.caller = ANY (own) OR x.number = ANY (own) OR x.id = ANY (calls);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'unanswered calls';
    DELETE FROM sip_edge.call_records c WHERE c.id = ANY (calls) AND c.answered_at IS NULL;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'answered calls (what billing needs stays, without the person)';
    UPDATE sip_edge.call_records c SET
        source_name = CASE WHEN c.source_kind = 'seat' AND c.source_name = seat THEN 'erased' ELSE c.source_name END,
        target_name = CASE WHEN c.target_kind = 'seat' AND c.target_name = seat THEN 'erased' ELSE c.target_name END,
        caller = sip_edge.shortened(c.caller), dialled = NULL, called = sip_edge.shortened(c.called),
        number = sip_edge.shortened(c.number), presented = sip_edge.shortened(c.presented),
        network_number = sip_edge.shortened(c.network_number), a_call_id = NULL, b_call_id = NULL,
        trace = NULL, attempts = NULL
    WHERE c.id = ANY (calls) AND c.answered_at IS NOT NULL;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'sent faxes';
    DELETE FROM sip_edge.faxes f WHERE f.direction = 'out' AND f.number = ANY (own);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
END
$$;

CREATE FUNCTION sip_edge.purge_defence(at_time timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
    DELETE FROM sip_edge.alarms WHERE at <= at_time - interval '7 days';
    DELETE FROM sip_edge.budget_usage WHERE bucket <= at_time - interval '25 hours';
    DELETE FROM sip_edge.budget_resets WHERE reset_at <= at_time - interval '25 hours'
$$;
