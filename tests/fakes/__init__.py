"""Real, small stand-ins for what the gateway talks to."""
