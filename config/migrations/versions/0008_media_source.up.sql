-- Carriers whose media come from the address in their description and from nowhere else.

ALTER TABLE sip_edge.carriers
    ADD media_source text NOT NULL DEFAULT 'learned',
    ADD CONSTRAINT carrier_media_source CHECK (media_source IN ('learned', 'sdp'));
COMMENT ON COLUMN sip_edge.carriers.media_source IS 'where its media may come from: learned from the first packet, or the address in its SDP alone';
COMMENT ON CONSTRAINT carrier_media_source ON sip_edge.carriers IS 'media_source is learned or sdp';
