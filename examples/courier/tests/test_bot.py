"""What an errand is, and the words of a whole bot on a platform of a few lines."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from io import BufferedRWPair
from pathlib import Path

from courier.bot import answer, duration

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 30.0


class ErrandTest(unittest.TestCase):
    def test_what_it_takes_and_says(self) -> None:
        for text, seconds, said in (
            ("carry 1.5 a letter", 1.5, "carried a letter"),
            ("carry 999 x", 60.0, "carried x"),
            ("carry", 0.0, "say: carry SECONDS THING"),
            ("carry two letters", 0.0, "carried letters"),
            ("hello", 0.0, "say: carry SECONDS THING"),
        ):
            with self.subTest(text):
                self.assertEqual((duration(text), answer(text)), (seconds, said))


class WordsTest(unittest.TestCase):
    """A bot, a notify socket, and a platform that hands out one event at a time."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(str(self.root / "notify"))
        self.notify.settimeout(DEADLINE_S)
        self.platform = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.platform.close)
        self.platform.settimeout(DEADLINE_S)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        port = self.platform.getsockname()[1]
        wanted = {
            "COURIER_PLATFORM": f"127.0.0.1:{port}",
            "REGROW_STATE": str(self.root),
            "NOTIFY_SOCKET": str(self.root / "notify"),
        }
        process = subprocess.Popen((sys.executable, "-m", "courier"), cwd=ROOT, env={**os.environ, **wanted, **env})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def heard(self) -> list[str]:
        return sorted(self.notify.recv(4096).decode().splitlines())

    def line(self) -> socket.socket:
        connection, _ = self.platform.accept()
        connection.settimeout(DEADLINE_S)
        self.addCleanup(connection.close)
        return connection

    def test_the_five_words(self) -> None:
        bot = self.start(REGROW_START="paused")
        self.assertEqual(self.heard(), ["READY=1", "X_STATE=armed"])
        bot.send_signal(signal.SIGUSR2)
        line = self.line()
        file = line.makefile("rwb")
        self.addCleanup(file.close)
        self.assertIn("connect", json.loads(file.readline()))
        tell(file, {"welcome": ""})
        self.assertEqual(self.heard(), ["READY=1", "X_STATE=connected"])
        bot.send_signal(signal.SIGUSR2)
        self.assertEqual(self.heard(), ["X_STATE=connected"], "an order that changes nothing was not answered")
        tell(file, {"event": "e1", "text": "carry 0.1 parcel"})
        self.assertEqual(json.loads(file.readline()), {"ack": "e1"})
        bot.send_signal(signal.SIGUSR1)
        self.assertIn("bye", json.loads(file.readline()))
        tell(file, {"bye": ""})
        self.assertEqual(self.heard(), ["X_STATE=draining"])
        answering = self.line().makefile("rwb")
        self.addCleanup(answering.close)
        told = json.loads(answering.readline())
        self.assertEqual(told, {"answer": "e1", "text": "carried parcel", "key": "e1"})
        tell(answering, {"taken": "e1"})
        self.assertEqual(self.heard(), ["X_STATE=drained"])
        bot.send_signal(signal.SIGTERM)
        self.assertEqual(self.heard(), ["STOPPING=1"])
        self.assertEqual(bot.wait(DEADLINE_S), 0)

    def test_a_report_that_nobody_took_is_made_again(self) -> None:
        self.notify.close()
        (self.root / "notify").unlink()
        self.start()
        file = self.line().makefile("rwb")
        self.addCleanup(file.close)
        file.readline()
        tell(file, {"welcome": ""})
        tell(file, {"event": "e1", "text": "carry 60 piano"})
        file.readline()  # it has said by now that it is connected
        again = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(again.close)
        again.settimeout(DEADLINE_S)
        again.bind(str(self.root / "notify"))
        self.assertEqual(sorted(again.recv(4096).decode().splitlines()), ["READY=1", "X_STATE=connected"])


class CheckTest(unittest.TestCase):
    def check(self, **env: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", "courier", "check")
        clean = {key: value for key, value in os.environ.items() if key != "COURIER_PLATFORM"}
        return subprocess.run(argv, cwd=ROOT, env={**clean, **env}, capture_output=True, text=True, check=False)

    def test_settings_and_table(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            wanted = {"COURIER_PLATFORM": "127.0.0.1:1", "REGROW_STATE": directory}
            self.assertEqual(self.check(**wanted).returncode, 0)
            self.assertIn("set COURIER_PLATFORM", self.check(REGROW_STATE=directory).stderr)
            Path(directory, "courier.db").write_bytes(b"no database, but of some length" * 10)
            self.assertIn("not a database", self.check(**wanted).stderr)


def tell(file: BufferedRWPair, message: dict[str, str]) -> None:
    file.write(json.dumps(message).encode() + b"\n")
    file.flush()


if __name__ == "__main__":
    unittest.main()
