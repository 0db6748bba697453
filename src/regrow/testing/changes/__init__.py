"""Changes to services, good and bad, as data: what `scripts/bench gate` measures and the tests judge by.

`project` holds the service with its bugs, `good` and `bad` the changes, `runs` takes one through the real steps of a
repair: a real repository, the gate, and the verification in the real box.
"""
