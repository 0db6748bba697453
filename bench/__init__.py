"""Benches: each prints one JSON object a line, `{"bench", "case", "metric", "value", "unit"}`, and nothing else.

`scripts/bench NAME --size smoke|default|nightly`. Every figure is measured from outside the code it is about.
"""
