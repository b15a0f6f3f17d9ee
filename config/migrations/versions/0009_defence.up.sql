-- Budgets, the kill switch, how long a call may last, and alarms (docs/security.md).

DO $$
DECLARE
    which text;
    what text;
    one text;
BEGIN
    FOREACH which IN ARRAY '{accounts,trunks,seats}'::text[] LOOP
        one := rtrim(which, 's');
        FOREACH what IN ARRAY '{calls_per_hour,calls_per_day,minutes_per_hour,minutes_per_day}'::text[] LOOP
            EXECUTE format('ALTER TABLE sip_edge.%I ADD %I integer, ADD CONSTRAINT %I CHECK (%I >= 0)',
                which, what, one || '_' || what, what);
            EXECUTE format('COMMENT ON CONSTRAINT %I ON sip_edge.%I IS %L', one || '_' || what, which,
                what || ' must be 0 or more; leave it out for no budget');
        END LOOP;
    END LOOP;
END $$;

ALTER TABLE sip_edge.accounts
    ADD night_percent    integer NOT NULL DEFAULT 100,
    ADD max_call_minutes integer,
    ADD suspension       text NOT NULL DEFAULT 'bar',
    ADD CONSTRAINT account_night_percent CHECK (night_percent BETWEEN 0 AND 100),
    ADD CONSTRAINT account_max_call_minutes CHECK (max_call_minutes BETWEEN 1 AND 10080),
    ADD CONSTRAINT account_suspension CHECK (suspension IN ('bar', 'end', 'lock'));
COMMENT ON CONSTRAINT account_night_percent ON sip_edge.accounts IS 'night_percent must be 0 to 100: the share of the budgets that holds at night and at weekends';
COMMENT ON CONSTRAINT account_max_call_minutes ON sip_edge.accounts IS 'max_call_minutes must be 1 to 10080';
COMMENT ON CONSTRAINT account_suspension ON sip_edge.accounts IS 'suspension must be bar, end or lock';

-- What was used of budgets, in steps of five minutes. Each edge writes its own rows and reads the others'.
CREATE TABLE sip_edge.budget_usage (
    edge       text NOT NULL,
    level      text NOT NULL CHECK (level IN ('account', 'trunk', 'seat')),
    key        text NOT NULL,
    bucket     timestamptz NOT NULL,
    calls      integer NOT NULL DEFAULT 0,
    seconds    integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (edge, level, key, bucket)
);
CREATE INDEX budget_usage_by_change ON sip_edge.budget_usage (updated_at);
CREATE INDEX budget_usage_of_key ON sip_edge.budget_usage (level, key, bucket);

CREATE TABLE sip_edge.budget_resets (
    level    text NOT NULL,
    key      text NOT NULL,
    reset_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (level, key)
);

CREATE TABLE sip_edge.alarms (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    edge    text NOT NULL,
    kind    text NOT NULL,
    account text,
    subject text NOT NULL,
    detail  text NOT NULL
);
CREATE INDEX alarms_by_time ON sip_edge.alarms (at);
CREATE INDEX alarms_of_account ON sip_edge.alarms (account, at);

CREATE FUNCTION sip_edge.notify_alarm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sip_edge_alarms', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER notify_alarm AFTER INSERT ON sip_edge.alarms FOR EACH ROW EXECUTE FUNCTION sip_edge.notify_alarm();

CREATE FUNCTION sip_edge.purge_defence(at_time timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
    DELETE FROM sip_edge.alarms WHERE at <= at_time - interval '7 days';
    DELETE FROM sip_edge.budget_usage WHERE bucket <= at_time - interval '25 hours';
    DELETE FROM sip_edge.budget_resets WHERE reset_at <= at_time - interval '25 hours'
$$;
