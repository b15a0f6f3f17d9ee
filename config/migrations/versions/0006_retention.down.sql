DROP FUNCTION sip_edge.privacy_erase(text);
DROP FUNCTION sip_edge.privacy_export(text);
DROP FUNCTION sip_edge.shortened(text);
DROP FUNCTION sip_edge.purge_leftovers(interval, timestamptz);
DROP INDEX sip_edge.call_records_unanswered;
DROP INDEX sip_edge.call_records_detailed;
