import json
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import notes


class NotesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "state", "notes.db")
        self.server = notes.Server(notes.Notes(self.path), None, ("127.0.0.1", 0))
        serving = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def ask(self, path, body=None):
        url = f"http://127.0.0.1:{self.server.server_address[1]}{path}"
        with urllib.request.urlopen(url, data=body, timeout=10) as answer:
            return json.load(answer)

    def test_a_note_is_kept_and_the_newest_comes_first(self):
        self.assertEqual(self.ask("/notes", b"buy bread"), {"id": 1})
        self.assertEqual(self.ask("/notes", "牛奶".encode()), {"id": 2})
        self.assertEqual([one["text"] for one in self.ask("/notes")], ["牛奶", "buy bread"])

    def test_notes_outlive_the_process(self):
        self.ask("/notes", b"buy bread")
        self.assertEqual(notes.Notes(self.path).all(), [{"id": 1, "text": "buy bread"}])

    def test_an_empty_note_is_refused(self):
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.ask("/notes", b"")
        self.assertEqual(refused.exception.code, 400)
        refused.exception.close()

    def test_health_names_the_version(self):
        self.assertEqual(self.ask("/health"), {"status": "ok", "version": "dev"})


if __name__ == "__main__":
    unittest.main()
