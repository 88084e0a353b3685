"""The gateway's face: client connections, the order of stages, answers, its own addresses, and the composition root."""
