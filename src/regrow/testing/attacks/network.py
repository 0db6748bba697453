"""The network: this machine's, the one around it, and everything that only looks like a socket."""

from __future__ import annotations

import asyncio

from regrow.process import Completed
from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.scene import Scene

_SETTLE_S = 10.0
_SEND = "connection.sendall((token + '\\n').encode())\nconnection.close()"


async def heard(scene: Scene, done: Completed, token: str) -> bool:
    """A listener of this machine heard the token: by now, or before something that was sent after it."""
    loop = asyncio.get_running_loop()
    after = f"after {token}"
    _, writer = await asyncio.open_connection("127.0.0.1", scene.ports["tcp"])
    writer.write(f"{after}\n".encode())
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", scene.ports["udp"])
    )
    transport.sendto(f"{after} udp".encode())
    async with asyncio.timeout(_SETTLE_S):
        while not {after, f"{after} udp"} <= scene.heard:
            await scene.heard_more.wait()
            scene.heard_more.clear()
    transport.close()
    writer.close()
    return token in scene.heard


ATTACKS = (
    Attack(
        "a port of this machine",
        "connects to 127.0.0.1",
        "connection = socket.create_connection(('127.0.0.1', int(args[0])), 5)\n" + _SEND,
        lambda s: [s.ports["tcp"]],
        heard,
    ),
    Attack(
        "a port of this machine by IPv6",
        "connects to ::1",
        "connection = socket.create_connection(('::1', int(args[0])), 5)\n" + _SEND,
        lambda s: [s.ports.get("tcp6", 9)],
        heard,
        optional=True,
    ),
    Attack(
        "a datagram",
        "sends one to 127.0.0.1",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(token.encode(), ('127.0.0.1', int(args[0])))",
        lambda s: [s.ports["udp"]],
        heard,
    ),
    Attack(
        "the daemon's own socket",
        "connects to the socket file of Regrow's API",
        "connection = socket.socket(socket.AF_UNIX)\nconnection.connect(args[0])\n" + _SEND,
        lambda s: [s.api],
        heard,
    ),
    Attack(
        "an abstract socket",
        "connects to a name in the machine's namespace of sockets",
        "connection = socket.socket(socket.AF_UNIX)\nconnection.connect('\\0' + args[0])\n" + _SEND,
        lambda s: [s.abstract],
        heard,
    ),
    Attack(
        "sockets that machines commonly have",
        "connects to those of containers, the bus and the service manager",
        "for name in ('/run/docker.sock', '/var/run/docker.sock', '/run/containerd/containerd.sock', "
        "'/run/podman/podman.sock',"
        " '/run/dbus/system_bus_socket', '/run/systemd/private', '/run/systemd/notify', '/tmp/.X11-unix/X0'):\n"
        "    try:\n        socket.socket(socket.AF_UNIX).connect(name)\n    except OSError as error:\n"
        "        print('held', error)\n"
        "    else:\n        got(name)",
        optional=True,
    ),
    Attack(
        "the hypervisor",
        "makes a socket of the family vsock, which no network namespace isolates",
        "got(socket.socket(40, socket.SOCK_STREAM).fileno())",
        control="unfiltered",
        optional=True,
    ),
    Attack(
        "packets",
        "makes a packet socket",
        "got(socket.socket(17, socket.SOCK_RAW, 0x0300).fileno())",
        control="nested",
    ),
    Attack("raw IP", "makes a raw socket", "got(socket.socket(2, socket.SOCK_RAW, 1).fileno())", control="nested"),
    Attack(
        "odd families",
        "makes sockets of families that few programs need: crypto, RDS, TIPC, Bluetooth, XDP, X.25",
        "for family in (38, 21, 30, 31, 44, 9, 29, 41):\n"
        "    try:\n"
        "        got(socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else "
        "socket.SOCK_DGRAM).fileno())\n"
        "    except OSError as error:\n        print('held', error)",
        control="unfiltered",
        optional=True,
    ),
    Attack(
        "interfaces",
        "looks for an interface that leads out",
        "names = [name for _, name in socket.if_nameindex() if name != 'lo']\nif names:\n    got(names)",
        optional=True,
    ),
    Attack(
        "the name service",
        "looks a name up",
        "try:\n    got(socket.getaddrinfo('example.org', 80))\nexcept socket.gaierror as error:\n"
        "    print('held', error)",
        control="none",
        why="tests have no network beyond loopback",
    ),
    Attack(
        "the internet",
        "connects to an address of the documentation's network",
        "got(socket.create_connection(('192.0.2.1', 80), 5))",
        control="none",
        why="tests have no network beyond loopback",
    ),
    Attack(
        "the metadata service",
        "connects to the address by which clouds give keys away",
        "got(socket.create_connection(('169.254.169.254', 80), 5))",
        control="none",
        why="tests have no network beyond loopback, and a machine may have one",
    ),
    Attack(
        "a bridge of its own",
        "gives its own namespace an interface that leads out",
        # SIOCSIFFLAGS-like changes need a capability; a tunnel device is the way out that needs no peer.
        "device = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(device, 0x400454ca, struct.pack('16sH', b'tap-regrow', 0x1002))\ngot()",
        control="nested",
        optional=True,
    ),
)
