"""A rehearsal: a release is started on a copy of the data, in the box, before it meets the data itself (F21).

It shows two things: whether the release can work with this data, and whether it moves the schema on. The box has no
network but its own loopback, no secrets and no chat; a program that cannot live there fails whatever its data is, and
so does the release that serves now. Then the rehearsal has shown nothing, and says so.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from regrow import files, probes
from regrow.care import Care
from regrow.errors import ProcessTimeout
from regrow.pool import in_thread
from regrow.releases import Release
from regrow.sandboxes.base import Box
from regrow.snapshots import Schema, Snapshot

_MARGIN_S = 15.0
INTERPRETER = tuple(dict.fromkeys(Path(prefix) for prefix in (sys.prefix, sys.base_prefix) if prefix != "/usr"))
"""What runs the trial is a program of this interpreter; /usr is in every box."""


@dataclass(frozen=True)
class Rehearsal:
    """What was seen.

    Attributes:
        passed: whether it was proved; None where that cannot be told.
        before, after: the schema of the copy.
        output: what it printed.
    """

    passed: bool | None
    before: Schema
    after: Schema
    output: str

    @property
    def moves(self) -> bool | None:
        """Whether the release moves the schema on; None where that cannot be told."""
        return True if self.before != self.after else False if self.passed else None


async def rehearse(care: Care, release: Release, snapshot: Snapshot, place: Path) -> Rehearsal:
    """Start `release` on a copy of `snapshot`, prove it, end it, and look at the copy.

    Args:
        care: the service.
        release: which.
        snapshot: the data.
        place: a directory that is made for this, and deleted afterwards.

    Raises:
        Refused: kinds "snapshot_damaged", "disk_full", "no_sandbox" and others of the box.
    """
    service, sandbox = care.config.service, care.config.sandbox
    state = Path((await in_thread(files.private_directory, place)).resolve())
    try:
        await care.snapshots.lay_out(snapshot, state, care.config.state.sqlite)
        before = await care.schema(state)
        trial = probes.trial(care.config, release.id, str(release.directory), str(state))
        box = Box(
            workspace=release.directory.resolve(),
            writable=(state,),
            readable=(*care.config.readable(), *INTERPRETER),
            memory_bytes=sandbox.memory,
            file_bytes=max(sandbox.file_size, 2 * snapshot.bytes) if sandbox.file_size else 0,
            processes=sandbox.processes,
        )
        try:
            done = await care.sandbox.run(
                [sys.executable, "-I", "-", json.dumps(trial)],
                box,
                timeout_s=service.start_timeout + service.stop_timeout + _MARGIN_S,
                stdin=probes.trial_program().encode(),
            )
            passed = {0: True, 1: False}.get(done.code)
            output = done.output
        except ProcessTimeout as error:
            passed, output = False, error.log
        return Rehearsal(passed, before, await care.schema(state), output)
    finally:
        await in_thread(files.remove_tree, place)
