"""Regrow: repair, rebuild, redeploy and roll back a long-running service by saying so in a chat."""

__version__ = "0.1.0"
