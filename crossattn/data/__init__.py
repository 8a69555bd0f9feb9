"""What a bar is, when it is known, where it comes from, and a market with planted truth."""
