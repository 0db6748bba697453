"""Durable work: plans as data, steps that may run twice, one runner."""
