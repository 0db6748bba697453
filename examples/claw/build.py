"""python build.py OUT_DIR: make a release of Claw from this directory. Needs no network.

The version is the value of REGROW_VERSION. The same source and the same Python make the same bytes.
"""

import os
import py_compile
import shutil
import sys
from pathlib import Path

PACKAGE = "claw"


def build(source: Path, out: Path, version: str) -> None:
    """Copy the package of `source` to the empty or new directory `out`, compiled, with its version.

    Raises SystemExit with the compiler's message when a file does not compile.
    """
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"cannot build into {out}: it is not empty")
    files = sorted(path.relative_to(source) for path in (source / PACKAGE).rglob("*.py"))
    steps = len(files) + 1
    for number, name in enumerate(files, start=1):
        print(f"[{number}/{steps}] compile {name}", flush=True)
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
        try:
            # A release is never edited: Python need not look whether the source has changed, and
            # must not write into the release.
            py_compile.compile(
                str(target),
                dfile=str(name),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError as error:
            raise SystemExit(f"cannot compile {name}:\n{error.msg.rstrip()}") from None
    print(f"[{steps}/{steps}] write VERSION", flush=True)
    (out / "VERSION").write_text(version + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python build.py OUT_DIR")
    build(Path(__file__).resolve().parent, Path(sys.argv[1]), os.environ.get("REGROW_VERSION") or "dev")
