"""The daemon's HTTP API over the intents, and its client."""
