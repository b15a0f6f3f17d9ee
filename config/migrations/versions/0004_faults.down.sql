DROP FUNCTION sip_edge.faults_of, sip_edge.check_rows;
