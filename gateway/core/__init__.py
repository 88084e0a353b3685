"""Everything the gateway decides: plain functions and frozen values, without I/O, clock, randomness or environment."""
