-- Where and how a customer's PBX wants to be told which of its numbers was called (SIPconnect leaves both open in practice).

ALTER TABLE sip_edge.trunks
    ADD number_format text NOT NULL DEFAULT 'e164-plus',
    ADD called_in     text NOT NULL DEFAULT 'request-uri',
    ADD CONSTRAINT trunk_number_format CHECK (number_format IN ('e164-plus', 'e164', 'national', 'idd')),
    ADD CONSTRAINT trunk_called_in CHECK (called_in IN ('request-uri', 'to', 'p-called-party-id'));
COMMENT ON COLUMN sip_edge.trunks.number_format IS 'how the called number is written towards the PBX';
COMMENT ON COLUMN sip_edge.trunks.called_in IS 'what names the called number: the Request-URI (and To), To alone, or P-Called-Party-ID (and To)';
COMMENT ON CONSTRAINT trunk_number_format ON sip_edge.trunks IS 'number_format is e164-plus, e164, national or idd';
COMMENT ON CONSTRAINT trunk_called_in ON sip_edge.trunks IS 'called_in is request-uri, to or p-called-party-id';
