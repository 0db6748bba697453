"""What every bench shares: its command line and the lines it prints."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SIZES = ("smoke", "default", "nightly")


@dataclass
class Lines:
    """The lines of one bench.

    Args:
        bench: its name, the first field of each line.
    """

    bench: str

    def put(self, case: str, metric: str, value: float | int, unit: str, **more: Any) -> None:
        """Print one figure; times in ms with two decimals, counts as they are."""
        shown = round(value, 2) if isinstance(value, float) else value
        line = {"bench": self.bench, "case": case, "metric": metric, "value": shown, "unit": unit, **more}
        print(json.dumps(line, ensure_ascii=False), flush=True)


def arguments(about: str) -> argparse.ArgumentParser:
    """What every bench's command line has: one of SIZES. smoke proves that the bench works, default ends within ten
    minutes, nightly repeats more."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--size", choices=SIZES, default="default")
    return parser


def size(about: str, argv: Sequence[str] | None = None) -> str:
    """Read the command line of a bench that has no other options; returns one of SIZES."""
    return str(arguments(about).parse_args(argv).size)


def environment(**more: str) -> dict[str, str]:
    """Variables for a program that is measured: as installed, so with compiled modules kept."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **more}
