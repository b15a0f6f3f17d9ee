DROP FUNCTION sip_edge.recount, sip_edge.resume, sip_edge.exchange, sip_edge.set_leases, sip_edge.lock_rows;
DROP TYPE sip_edge.claim, sip_edge.lease;
ALTER TABLE sip_edge.channel_usage DROP COLUMN starts;
ALTER TABLE sip_edge.edges DROP COLUMN epoch;
