"""A bot that holds a connection to a chat platform and carries things: what takes time, and must not be lost."""
