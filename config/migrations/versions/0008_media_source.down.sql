ALTER TABLE sip_edge.carriers DROP media_source;
