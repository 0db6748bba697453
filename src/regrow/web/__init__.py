"""The console: pages for a browser over the HTTP API. It decides nothing; every change goes through /v1."""
