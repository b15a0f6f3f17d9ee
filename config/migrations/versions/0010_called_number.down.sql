ALTER TABLE sip_edge.trunks DROP number_format, DROP called_in;
