DROP FUNCTION sip_edge.purge_defence(timestamptz);
DROP TABLE sip_edge.alarms;
DROP FUNCTION sip_edge.notify_alarm();
DROP TABLE sip_edge.budget_resets;
DROP TABLE sip_edge.budget_usage;
ALTER TABLE sip_edge.accounts
    DROP calls_per_hour, DROP calls_per_day, DROP minutes_per_hour, DROP minutes_per_day,
    DROP night_percent, DROP max_call_minutes, DROP suspension;
ALTER TABLE sip_edge.trunks
    DROP calls_per_hour, DROP calls_per_day, DROP minutes_per_hour, DROP minutes_per_day;
ALTER TABLE sip_edge.seats
    DROP calls_per_hour, DROP calls_per_day, DROP minutes_per_hour, DROP minutes_per_day;
