"""Cases of the switch bench that need a service of another kind."""
