"""The command line: one file a verb, each a client of the API only."""
