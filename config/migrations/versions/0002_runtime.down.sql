DROP FUNCTION sip_edge.purge_fax_content, sip_edge.purge_registrations, sip_edge.purge_call_records, sip_edge.purge_refused_calls;
DROP TABLE sip_edge.fax_mails, sip_edge.faxes;
DROP VIEW sip_edge.refusals;
DROP TABLE sip_edge.refused_calls, sip_edge.call_records, sip_edge.live_calls, sip_edge.carrier_states,
    sip_edge.registrations, sip_edge.edges;
