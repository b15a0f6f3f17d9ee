DELETE FROM sip_edge.faxes WHERE fax_box IS NULL;
ALTER TABLE sip_edge.fax_mails DROP COLUMN queued_at, DROP COLUMN claimed_until;
ALTER TABLE sip_edge.faxes
    DROP COLUMN direction, DROP COLUMN called, DROP COLUMN language, DROP COLUMN time_zone, DROP COLUMN encrypted,
    DROP COLUMN poor_quality, DROP COLUMN remote_model, DROP COLUMN t38_packets, DROP COLUMN lost_packets,
    ALTER fax_box SET NOT NULL;
