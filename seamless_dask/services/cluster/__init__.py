"""Workers that come and go with the work: processes on this host, or jobs of a batch system."""
