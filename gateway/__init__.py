"""The edge gateway for Clerk."""

__version__ = "0.1.0"
