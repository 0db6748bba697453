"""Ways to talk."""
