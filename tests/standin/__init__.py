"""Stand-ins for data venues: loopback servers, standard library only, with a catalogue of faults."""
