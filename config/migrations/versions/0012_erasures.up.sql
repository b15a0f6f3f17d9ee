-- What is kept how long is said in one place, edge/retention/kept.py, and one job deletes it: the functions that knew ages
-- of their own go. Erasing a person's data reaches every edge: what each has in files, and what it writes late.

DROP FUNCTION sip_edge.purge_refused_calls(timestamptz);
DROP FUNCTION sip_edge.purge_call_records(interval, timestamptz);
DROP FUNCTION sip_edge.purge_registrations(timestamptz);
DROP FUNCTION sip_edge.purge_fax_content(interval, timestamptz);
DROP FUNCTION sip_edge.purge_leftovers(interval, timestamptz);
DROP FUNCTION sip_edge.purge_defence(timestamptz);
DROP INDEX sip_edge.call_records_refused;

-- An erasure that edges carry out, each once. Numbers are there as digests only: enough to know them again in what comes
-- late.
CREATE TABLE sip_edge.erasures (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    seat    text NOT NULL,
    salt    text NOT NULL,
    numbers text[] NOT NULL,
    calls   text[] NOT NULL
);
COMMENT ON COLUMN sip_edge.erasures.numbers IS 'digests of the numbers that were the seat''s, with the salt';
COMMENT ON COLUMN sip_edge.erasures.calls IS 'our ids of its calls of the last 7 days, of which edges may have traces';

CREATE FUNCTION sip_edge.digest(salt text, number text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(sha256(convert_to(salt || number, 'UTF8')), 'hex')
$$;

-- The numbers that are a seat's own: those that lead to it, and the one that it shows, unless that leads elsewhere (a
-- company's main number is nobody's own).
CREATE FUNCTION sip_edge.numbers_of(of_seat text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT n.number FROM sip_edge.numbers n WHERE n.route_kind = 'seat' AND n.route_target = of_seat
    UNION
    SELECT r.prefix || CASE WHEN free.digits = 0 THEN '' ELSE lpad(i::text, free.digits, '0') END
    FROM sip_edge.ranges r JOIN sip_edge.blocks b ON b.prefix = r.block
    CROSS JOIN LATERAL (SELECT length(b.prefix) + b.digits - length(r.prefix) AS digits) AS free
    CROSS JOIN LATERAL generate_series(0, power(10, free.digits)::integer - 1) AS i
    WHERE r.route_kind = 'seat' AND r.route_target = of_seat AND free.digits <= 4
    UNION
    SELECT s.primary_number FROM sip_edge.seats s
    WHERE s.username = of_seat AND s.primary_number IS NOT NULL
        AND coalesce(sip_edge.seat_of(s.primary_number), of_seat) = of_seat
        AND NOT EXISTS (
            SELECT FROM sip_edge.numbers n WHERE n.number = s.primary_number AND n.route_kind NOT IN ('none', 'seat'))
$$;

DROP FUNCTION sip_edge.privacy_export(text);
CREATE FUNCTION sip_edge.privacy_export(seat text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    WITH numbers AS (SELECT * FROM sip_edge.numbers_of(seat) AS number),
    calls AS (
        SELECT c.* FROM sip_edge.call_records c
        WHERE c.source_kind = 'seat' AND c.source_name = seat OR c.target_kind = 'seat' AND c.target_name = seat
            OR c.caller IN (SELECT number FROM numbers) OR c.called IN (SELECT number FROM numbers)
            OR c.number IN (SELECT number FROM numbers)
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
                ORDER BY c.started_at), '[]') FROM calls c),
        'refused_calls', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.at), '[]') FROM sip_edge.refused_calls x
            WHERE x.caller IN (SELECT number FROM numbers) OR x.number IN (SELECT number FROM numbers)
                OR x.id IN (SELECT id FROM calls)),
        'faxes', (SELECT coalesce(jsonb_agg(to_jsonb(f) - 'content' ORDER BY f.started_at), '[]') FROM sip_edge.faxes f
            WHERE f.direction = 'out' AND f.number IN (SELECT number FROM numbers)),
        'alarms', (SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a.at), '[]') FROM sip_edge.alarms a
            WHERE a.subject IN (seat, 'seat ' || seat) OR a.subject IN (SELECT number FROM numbers)),
        'budget_usage', (SELECT coalesce(jsonb_agg(to_jsonb(u) ORDER BY u.bucket), '[]') FROM sip_edge.budget_usage u
            WHERE u.level = 'seat' AND u.key = seat)
    )
$$;

-- Erase these rows: calls and refused calls by their ids, faxes sent, and what names the seat. What billing needs of an
-- answered call stays until its time: account, carrier, direction, times, and numbers without their last three digits.
-- Internal.
CREATE FUNCTION sip_edge.erase_rows(of_seat text, calls text[], refused text[], sent text[], named text[])
RETURNS TABLE (what text, gone bigint) LANGUAGE plpgsql AS $$
BEGIN
    what := 'refused calls';
    DELETE FROM sip_edge.refused_calls x WHERE x.id = ANY (refused);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'unanswered calls';
    DELETE FROM sip_edge.call_records c WHERE c.id = ANY (calls) AND c.answered_at IS NULL;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'answered calls (what billing needs stays, without the person)';
    UPDATE sip_edge.call_records c SET
        source_name = CASE WHEN c.source_kind = 'seat' AND c.source_name = of_seat THEN 'erased' ELSE c.source_name END,
        target_name = CASE WHEN c.target_kind = 'seat' AND c.target_name = of_seat THEN 'erased' ELSE c.target_name END,
        caller = sip_edge.shortened(c.caller), dialled = NULL, called = sip_edge.shortened(c.called),
        number = sip_edge.shortened(c.number), presented = sip_edge.shortened(c.presented),
        network_number = sip_edge.shortened(c.network_number), a_call_id = NULL, b_call_id = NULL,
        trace = NULL, attempts = NULL
    WHERE c.id = ANY (calls) AND c.answered_at IS NOT NULL;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'details of others'' calls that named the seat';
    UPDATE sip_edge.call_records c SET trace = NULL, attempts = NULL
    WHERE c.trace IS NOT NULL AND (
        strpos(c.attempts::text, to_json(of_seat)::text) > 0 OR strpos(c.trace::text, 'seat ' || of_seat) > 0
        OR c.trace::text LIKE ANY (named) OR c.attempts::text LIKE ANY (named));
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'sent faxes, with their mails';
    DELETE FROM sip_edge.faxes f WHERE f.id = ANY (sent);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    what := 'alarms';
    DELETE FROM sip_edge.alarms a WHERE a.subject IN (of_seat, 'seat ' || of_seat) OR a.detail LIKE ANY (named)
        OR a.subject LIKE ANY (named);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
END
$$;

DROP FUNCTION sip_edge.privacy_erase(text);
CREATE FUNCTION sip_edge.privacy_erase(seat text) RETURNS TABLE (what text, gone bigint) LANGUAGE plpgsql AS $$
DECLARE
    now_is timestamptz := clock_timestamp();
    salted text := gen_random_uuid()::text;
    own text[] := ARRAY(SELECT sip_edge.numbers_of(seat));
    forms text[] := ARRAY(  -- as callers dial them
        SELECT form FROM unnest(own) AS n CROSS JOIN LATERAL
            (VALUES (n), (substr(n, 2)), ('00' || substr(n, 2)), ('0' || substr(n, 4))) AS f (form));
    calls text[] := ARRAY(SELECT c.id FROM sip_edge.call_records c
        WHERE c.source_kind = 'seat' AND c.source_name = seat OR c.target_kind = 'seat' AND c.target_name = seat
            OR c.caller = ANY (own) OR c.called = ANY (forms) OR c.number = ANY (own) OR c.presented = ANY (own)
            OR c.network_number = ANY (own) OR c.dialled = ANY (forms));
    refused text[] := ARRAY(SELECT x.id FROM sip_edge.refused_calls x
        WHERE x.caller = ANY (own) OR x.number = ANY (forms) OR x.id = ANY (calls));
BEGIN
    INSERT INTO sip_edge.erasures (at, seat, salt, numbers, calls)
    SELECT now_is, privacy_erase.seat, salted, ARRAY(SELECT sip_edge.digest(salted, f) FROM unnest(forms) AS f),
        ARRAY(SELECT c.id FROM sip_edge.call_records c WHERE c.id = ANY (calls) AND c.ended_at > now_is - interval '7 days'
            UNION SELECT unnest(refused));
    what := 'registrations';
    DELETE FROM sip_edge.registrations r WHERE r.aor_kind = 'seat' AND r.aor = privacy_erase.seat;
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
    RETURN QUERY SELECT * FROM sip_edge.erase_rows(
        privacy_erase.seat, calls, refused,
        ARRAY(SELECT f.id FROM sip_edge.faxes f WHERE f.direction = 'out' AND f.number = ANY (own)),
        ARRAY(SELECT '%' || n || '%' FROM unnest(own) AS n));
    what := 'faxes of others that named a number';
    UPDATE sip_edge.faxes f SET caller = CASE WHEN f.caller = ANY (own) THEN sip_edge.shortened(f.caller) ELSE f.caller END,
        called = CASE WHEN f.called = ANY (own) THEN sip_edge.shortened(f.called) ELSE f.called END
    WHERE f.caller = ANY (own) OR f.called = ANY (own);
    GET DIAGNOSTICS gone = ROW_COUNT; RETURN NEXT;
END
$$;

-- The same again for what came late: records that an edge had on disk, calls that were up. Returns how many rows.
CREATE FUNCTION sip_edge.erase_again(erasure bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    e sip_edge.erasures := (SELECT x FROM sip_edge.erasures x WHERE x.id = erasure);
    late text[] := ARRAY(SELECT c.id FROM sip_edge.call_records c
        WHERE c.ended_at > e.at - interval '7 days' AND c.started_at <= e.at AND (
            c.source_kind = 'seat' AND c.source_name = e.seat OR c.target_kind = 'seat' AND c.target_name = e.seat
            OR sip_edge.digest(e.salt, c.caller) = ANY (e.numbers) OR sip_edge.digest(e.salt, c.called) = ANY (e.numbers)
            OR sip_edge.digest(e.salt, c.number) = ANY (e.numbers)
            OR sip_edge.digest(e.salt, c.presented) = ANY (e.numbers)
            OR sip_edge.digest(e.salt, c.network_number) = ANY (e.numbers)
            OR sip_edge.digest(e.salt, c.dialled) = ANY (e.numbers)));
    refused text[] := ARRAY(SELECT x.id FROM sip_edge.refused_calls x
        WHERE x.at <= e.at AND (x.id = ANY (late) OR sip_edge.digest(e.salt, x.caller) = ANY (e.numbers)
            OR sip_edge.digest(e.salt, x.number) = ANY (e.numbers)));
    sent text[] := ARRAY(SELECT f.id FROM sip_edge.faxes f WHERE f.direction = 'out' AND f.started_at <= e.at
        AND f.started_at > e.at - interval '7 days' AND sip_edge.digest(e.salt, f.number) = ANY (e.numbers));
BEGIN
    IF late || refused || sent = '{}' THEN
        RETURN 0;
    END IF;
    UPDATE sip_edge.erasures SET calls = calls || late || refused WHERE id = erasure;
    RETURN (SELECT sum(r.gone) FROM sip_edge.erase_rows(e.seat, late, refused, sent, '{}') r);
END
$$;
