"""The table of claims, with processes that really live and die."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from courier.claims import Claims, lives, owner

ROOT = Path(__file__).resolve().parent.parent
TAKE = """
import sys
from pathlib import Path
from courier.claims import Claims, owner
claims = Claims(Path(sys.argv[1]), owner("r1"))
for event in sys.argv[2:]:
    claims.take(event, "carry 0 " + event)
claims.done(sys.argv[2])
print("taken", flush=True)
sys.stdin.read()
"""


class ClaimsTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "courier.db")
        self.claims = Claims(self.path, owner("r2"))
        self.addCleanup(self.claims.close)

    def other(self, *events: str) -> subprocess.Popen[bytes]:
        """Another process that has taken these and done the first."""
        argv = (sys.executable, "-c", TAKE, str(self.path), *events)
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), b"taken\n")
        return process

    def test_an_event_is_taken_once(self) -> None:
        self.assertTrue(self.claims.take("e1", "carry 0 a"))
        self.assertFalse(self.claims.take("e1", "carry 0 a"))
        self.claims.done("e1")
        self.assertFalse(self.claims.take("e1", "carry 0 a"), "a redelivery after the answer was answered again")

    def test_what_a_living_process_has_taken_is_its_own(self) -> None:
        self.other("e1", "e2")
        self.assertEqual(self.claims.adopt(), [])
        self.assertFalse(self.claims.take("e2", "carry 0 e2"))

    def test_what_a_dead_one_left_open_is_adopted_once(self) -> None:
        process = self.other("e1", "e2", "e3")
        process.kill()
        process.wait()
        rival = Claims(self.path, owner("r3", os.getppid()))
        self.assertEqual(self.claims.adopt(), [("e2", "carry 0 e2"), ("e3", "carry 0 e3")])
        self.assertEqual(rival.adopt(), [])
        rival.close()
        self.assertEqual(self.claims.adopt(), [])

    def test_of_two_that_see_the_same_dead_one_wins(self) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("insert into claims values ('e1', 't', 'r0 1 no-start no-boot', 0)")
        db.close()
        rival = Claims(self.path, owner("r3", os.getppid()))
        found = [*self.claims.adopt(), *rival.adopt()]
        rival.close()
        self.assertEqual(found, [("e1", "t")])

    def test_a_name_is_of_one_process_and_no_later_one_with_its_pid(self) -> None:
        name = owner("r 1")
        self.assertTrue(lives(name))
        release, pid, start, boot = name.rsplit(" ", 3)
        self.assertFalse(lives(f"{release} {pid} {int(start) - 1} {boot}"))
        self.assertFalse(lives(f"{release} {pid} {start} another-boot"))


if __name__ == "__main__":
    unittest.main()
