"""Attacks on the box, one definition for the tests and for `scripts/bench escape` (F39).

`ATTACKS` is the whole list. To add some: a module beside these with a tuple of `Attack`, named in `_GROUPS`. An attack
must be harmless on the day the box fails: it goes for canaries that its scene made, or opens without writing.
"""

from __future__ import annotations

from regrow.testing.attacks import files, git, kernel, network, processes
from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.scene import Scene, scene
from regrow.testing.attacks.trial import Result, attempt, control

_GROUPS = (files, network, processes, git, kernel)
ATTACKS: tuple[Attack, ...] = tuple(attack for group in _GROUPS for attack in group.ATTACKS)

__all__ = ["ATTACKS", "Attack", "Result", "Scene", "attempt", "control", "scene"]
