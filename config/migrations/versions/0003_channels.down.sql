DROP FUNCTION sip_edge.reclaim, sip_edge.renew, sip_edge.leave, sip_edge.enter, sip_edge.release, sip_edge.give_back,
    sip_edge.admit, sip_edge.lock_usage;
DROP TABLE sip_edge.channel_leases, sip_edge.channel_usage;
