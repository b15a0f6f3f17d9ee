DROP FUNCTION sip_edge.reclaim, sip_edge.leave, sip_edge.give_back;
DROP TABLE sip_edge.channel_leases, sip_edge.channel_usage;
