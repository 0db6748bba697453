"""The comparison of `scripts/bench switch` as a table for the README: `python -m bench.table < LINES`.

Every figure in it is a line of that run; what was not measured has a dash. "Down" are the gaps longer than 50 ms.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

_TITLES = {
    "regrow": "**Regrow**",
    "systemd": "systemd, `restart`",
    "supervisord": "supervisord, `restart`",
    "circus": "circus, `reload`, shared socket",
    "gunicorn_hup": "gunicorn, HUP",
    "gunicorn_usr2": "gunicorn, USR2",
    "pm2": "pm2, `reload`, cluster mode",
}
_HEAD = "| | good: failed / longest gap / first answer of v2 | v2 dies at once | v2 dies after 1 s | v2 dies in bake |"
Figures = dict[tuple[str, str], dict[str, float]]


def read(lines: Iterable[str]) -> Figures:
    """The figures of the switch bench: (peer, case) to metric to value."""
    found: Figures = {}
    for line in lines:
        entry = json.loads(line)
        if entry["bench"] == "switch" and "/" in entry["case"]:
            peer, _, case = entry["case"].partition("/")
            found.setdefault((peer, case), {})[entry["metric"]] = entry["value"]
    return found


def table(figures: Figures) -> str:
    """One row for Regrow and each peer that was measured, in markdown."""
    peers = dict.fromkeys(peer for peer, case in figures if case == "good")
    rows = []
    for peer in peers:
        bad = (_bad(figures.get((peer, case), {})) for case in ("crash_at_once", "crash_1s", "dies_in_bake"))
        rows.append(f"| {_TITLES.get(peer, peer)} | {_good(figures[peer, 'good'])} | {' | '.join(bad)} |")
    return "\n".join([_HEAD, "|---|---|---|---|---|", *rows])


def _good(found: dict[str, float]) -> str:
    return f"{found['failed_requests']:g} / {_time(found['longest_gap_ms'])} / {_time(found.get('first_new_ms'))}"


def _bad(found: dict[str, float]) -> str:
    if not found:
        return "–"
    end = "v1 serves" if found["went_back"] else "v1 is not back"
    return f"{found['failed_requests']:g} failed, down {_time(found['down_ms'])}, {end}"


def _time(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


if __name__ == "__main__":
    print(table(read(sys.stdin)))
