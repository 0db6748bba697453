"""Boxes by name."""
