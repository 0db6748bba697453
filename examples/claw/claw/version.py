"""Which version this is."""

from pathlib import Path


def current() -> str:
    """The version that the build wrote beside the package, or "dev" where nothing was built."""
    try:
        return (Path(__file__).resolve().parent.parent / "VERSION").read_text(encoding="utf-8").strip() or "dev"
    except FileNotFoundError:
        return "dev"
