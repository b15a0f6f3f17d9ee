ALTER TABLE sip_edge.carriers DROP COLUMN secondary_proxies, DROP COLUMN register_with;
