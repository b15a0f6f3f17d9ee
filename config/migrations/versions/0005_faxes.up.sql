-- Faxes that are sent as well as received, what their mails are written with, and claims on mails that are due.

ALTER TABLE sip_edge.faxes
    ADD direction    text NOT NULL DEFAULT 'in' CONSTRAINT fax_direction CHECK (direction IN ('in', 'out')),
    ADD called       text,
    ADD language     text NOT NULL DEFAULT 'de',
    ADD time_zone    text NOT NULL DEFAULT 'Europe/Berlin',
    ADD encrypted    boolean NOT NULL DEFAULT false,
    ADD poor_quality boolean NOT NULL DEFAULT false,
    ADD remote_model text,
    ADD t38_packets  integer NOT NULL DEFAULT 0,
    ADD lost_packets integer NOT NULL DEFAULT 0,
    ALTER fax_box DROP NOT NULL;
COMMENT ON COLUMN sip_edge.faxes.direction IS 'in: received in a fax box; out: sent';
COMMENT ON COLUMN sip_edge.faxes.called IS 'the number that a sent fax went to; number is then ours';
COMMENT ON COLUMN sip_edge.faxes.encrypted IS 'content is encrypted with the password that the fax box had';
COMMENT ON COLUMN sip_edge.faxes.poor_quality IS 'lines of a page were bad, whatever the code says';
COMMENT ON COLUMN sip_edge.faxes.t38_packets IS 'UDPTL packets that came; 0 after T.38 was agreed tells a carrier that sends none';

ALTER TABLE sip_edge.fax_mails
    ADD queued_at     timestamptz NOT NULL DEFAULT now(),
    ADD claimed_until timestamptz;
COMMENT ON COLUMN sip_edge.fax_mails.claimed_until IS 'an edge is sending this mail; others leave it alone until then';
