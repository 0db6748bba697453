import contextlib
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import ROOT

import build


class BuildTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        package = self.path / "source" / "claw"
        package.mkdir(parents=True)
        for name in ("__init__.py", "version.py"):
            (package / name).write_bytes((ROOT / "claw" / name).read_bytes())

    def build(self, out, version="1.2-abc"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            build.build(self.path / "source", self.path / out, version)
        return said.getvalue().splitlines()

    def test_a_release_runs_and_knows_its_version(self):
        lines = self.build("out")
        self.assertEqual(lines[0], "[1/3] compile claw/__init__.py")
        self.assertEqual(lines[-1], "[3/3] write VERSION")
        command = [sys.executable, "-c", "from claw import version; print(version.current())"]
        said = subprocess.run(
            command, cwd=self.path / "out", check=True, capture_output=True, text=True, timeout=20
        ).stdout
        self.assertEqual(said, "1.2-abc\n")

    def test_the_same_source_makes_the_same_bytes(self):
        self.build("one")
        self.build("two")
        one, two = (
            {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
            for out in (self.path / "one", self.path / "two")
        )
        self.assertEqual(one, two)
        self.assertTrue(any(path.suffix == ".pyc" for path in one))

    def test_a_syntax_error_fails_with_the_message_of_the_compiler(self):
        (self.path / "source" / "claw" / "odd.py").write_text("def odd(:\n")
        with self.assertRaisesRegex(SystemExit, r"(?s)cannot compile claw/odd.py.*line 1.*SyntaxError"):
            self.build("out")

    def test_nothing_is_overwritten(self):
        self.build("out")
        with self.assertRaisesRegex(SystemExit, "not empty"):
            self.build("out")
