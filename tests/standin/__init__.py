"""Stand-ins for data venues: loopback servers of the standard library, with faults on demand."""
