"""The API as a program: `python -m regrow.testing.model_api --script TURNS.json`.

The script is a JSON list of turns with the fields of `Turn`:

    [{"text": "I look.", "calls": [{"name": "Read", "input": {"file_path": "/w/src/a.py"}}]},
     {"status": 529, "repeat": 2},
     {"text": "Done.", "tokens": {"input": 1200, "output": 40}}]

The first line on the standard output is {"base_url": "..."}; then one line a request, {"method", "path", "status",
"bytes"}. SIGTERM and SIGINT end it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from regrow.testing.model_api.server import ModelApi
from regrow.testing.model_api.turns import Received, Turn, by_conversation


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="python -m regrow.testing.model_api", description="A scripted model API.")
    parser.add_argument("--script", type=Path, help="JSON list of turns; without one it says Done.")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; a free one by default")
    parser.add_argument("--key", default="", help="the only key that is accepted; any by default")
    parser.add_argument("--aside", default=None, help="what requests without tools are answered")
    parser.add_argument("--each", action="store_true", help="each conversation begins the script anew")
    parser.add_argument("--record", type=Path, help="at the end every byte that came is written here")
    given = parser.parse_args(argv)
    try:
        turns = [Turn.from_json(one) for one in json.loads(given.script.read_text("utf-8"))] if given.script else []
    except (OSError, ValueError, TypeError) as error:
        parser.error(f"cannot use the script {given.script}: {error}")
    api = ModelApi(
        by_conversation(turns) if given.each else turns,
        aside=None if given.aside is None else Turn(given.aside),
        key=given.key,
        port=given.port,
        on_received=_tell,
    )
    asyncio.run(_serve(api, given.record))
    return 0


async def _serve(api: ModelApi, record: Path | None) -> None:
    ended = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    async with api:
        _print({"base_url": api.base_url})
        await ended.wait()
    if record is not None:
        await asyncio.to_thread(record.write_bytes, bytes(api.raw))


def _tell(got: Received) -> None:
    _print({"method": got.method, "path": got.path, "status": got.status, "bytes": len(got.body)})


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
