import contextlib
import http.client
import json
import signal
import socket
import tempfile
import unittest
from pathlib import Path

from support import DEADLINE_S, Bot, Load, ask, listening

BODY = json.dumps({"chat": "family", "sender": "ann", "text": "hello"}).encode()


class ServeTest(unittest.TestCase):
    def setUp(self):
        self.open = contextlib.ExitStack()
        self.addCleanup(self.open.close)
        self.state = Path(self.open.enter_context(tempfile.TemporaryDirectory()))

    def start(self, *arguments, **options):
        return self.open.enter_context(Bot(self.state, *arguments, **options))

    def listening(self):
        return self.open.enter_context(listening())

    def half_a_request(self, address):
        """A connection that has been accepted and has sent half of a message."""
        connection = self.open.enter_context(socket.create_connection(address, DEADLINE_S))
        head = f"POST /chat HTTP/1.1\r\nHost: claw\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        # The bot asks for the body when it has begun to work on the request.
        self.assertIn(b"100", connection.recv(4096))
        connection.sendall(BODY[:10])
        return connection

    def finish(self, connection):
        connection.sendall(BODY[10:])
        response = http.client.HTTPResponse(connection)
        response.begin()
        self.assertEqual((response.status, json.loads(response.read())["answer"]), (200, "Hello!"))
        return response

    def test_two_releases_share_a_socket_and_one_is_paused(self):
        shared, probe_one, probe_two = self.listening(), self.listening(), self.listening()
        address = shared.getsockname()
        one = self.start(sockets={"http": shared, "probe": probe_one}, REGROW_RELEASE="one")
        two = self.start(sockets={"http": shared, "probe": probe_two}, REGROW_RELEASE="two", REGROW_START="paused")
        self.assertIn("X_VERSION=dev", one.wait("READY=1"))
        one.wait("STATUS=serving")
        two.wait("STATUS=paused")

        self.assertEqual(ask(probe_two.getsockname())["release"], "two")
        self.assertEqual({ask(address)["release"] for _ in range(20)}, {"one"})
        kept = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
        self.open.callback(kept.close)
        kept.request("GET", "/version")
        self.assertIsNone(self.read(kept).headers["connection"])
        begun = self.half_a_request(address)

        two.resume()
        two.wait("STATUS=serving")
        one.pause()
        one.wait("STATUS=paused")
        self.assertEqual({ask(address)["release"] for _ in range(20)}, {"two"})
        self.assertEqual(ask(probe_one.getsockname())["release"], "one")
        self.assertEqual(self.finish(begun).headers["connection"], "close")
        kept.request("GET", "/version")
        self.assertEqual(self.read(kept).headers["connection"], "close")

        # The way back: the newer one dies, the older one was kept warm.
        one.resume()
        one.wait("STATUS=serving")
        two.signal(signal.SIGKILL)
        two.ended()
        self.assertEqual({ask(address)["release"] for _ in range(5)}, {"one"})

    def read(self, connection):
        response = connection.getresponse()
        response.read()
        return response

    def test_no_request_fails_while_two_take_turns(self):
        shared = self.listening()
        active, standby = (self.start(sockets={"http": shared}, REGROW_START=start) for start in ("", "paused"))
        active.wait("READY=1")
        standby.wait("READY=1")
        load = Load(shared.getsockname(), 200)
        load.start()
        for turn in range(1, 7):
            # Each turn under load: the next begins when some more have been answered.
            while load.asked < turn * 28 and load.is_alive():
                load.join(0.001)
            standby.resume()
            active.pause()
            active.wait("STATUS=paused")
            active, standby = standby, active
        load.join(DEADLINE_S)
        self.assertEqual((load.asked, load.failures), (200, []))
        self.assertEqual(load.pids, {active.pid, standby.pid})

    def test_a_stop_finishes_what_has_begun(self):
        bot = self.start("--bind", "127.0.0.1:0")
        bot.wait("READY=1")
        address = bot.address
        begun = self.half_a_request(address)
        silent = self.open.enter_context(socket.create_connection(address, DEADLINE_S))
        bot.signal(signal.SIGTERM)
        bot.wait("STOPPING=1")
        self.finish(begun)
        silent.sendall(b"GET /version HTTP/1.1\r\nHost: claw\r\n\r\n")
        self.assertIn(b"200 OK", silent.recv(4096))
        self.assertEqual(bot.ended(), 0)
        with self.assertRaises(OSError):
            ask(address)

    def test_a_stop_does_not_wait_for_ever(self):
        bot = self.start("--bind", "127.0.0.1:0", REGROW_DRAIN_S="0.1")
        bot.wait("READY=1")
        begun = self.half_a_request(bot.address)
        bot.signal(signal.SIGINT)
        self.assertEqual(bot.ended(), 0)
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(begun.recv(4096), b"")
