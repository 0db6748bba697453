"""Claw: a small chat bot with a memory and an alarm clock."""
