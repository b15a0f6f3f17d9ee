DROP FUNCTION sip_edge.exchange_or_alone, sip_edge.alone_elsewhere;
ALTER TABLE sip_edge.edges DROP COLUMN alone_until;
