"""Shipped fakes and helpers for tests of Regrow and of drivers."""
