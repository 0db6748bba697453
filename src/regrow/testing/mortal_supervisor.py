"""A supervisor that dies by SIGKILL at a chosen point: run as a script in the place of `regrow/supervisor/__main__.py`.

A point is every moment just before and just after it writes its record or sends a signal to the service. The file
`die-after` in its directory holds how many points it has left; at the last one it takes the file away and is killed.
Without the file it lives. It is the real supervisor with these two calls wrapped; nothing in it knows of this.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "die-after"


def deadly(call: Callable[..., Any], left: Path) -> Callable[..., Any]:
    """The call, with a point before and a point after it."""

    def point() -> None:
        try:
            number = int(left.read_text()) - 1
        except FileNotFoundError:
            return
        if number > 0:
            left.write_text(str(number))
            return
        left.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(*arguments: Any) -> Any:
        point()
        result = call(*arguments)
        point()
        return result

    return wrapped


def main() -> int:
    """Wrap, and be the supervisor."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    # As the supervisor's own script does it: the package is found by its folder, and regrow is not.
    from supervisor import processes, record  # type: ignore[import-not-found]
    from supervisor.__main__ import main as supervise  # type: ignore[import-not-found]

    left = Path(sys.argv[sys.argv.index("--dir") + 1], FILE)
    record.Record.save = deadly(record.Record.save, left)
    processes.Process.send = deadly(processes.Process.send, left)
    code: int = supervise(sys.argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
