"""What others use to change versions, each behind the same four verbs: see README.md beside this file."""

from bench.peers.base import Missing, Peer
from bench.peers.circus import Circus
from bench.peers.gunicorn import GunicornHup, GunicornUsr2
from bench.peers.pm2 import Pm2
from bench.peers.supervisord import Supervisord
from bench.peers.systemd import Systemd

__all__ = ["PEERS", "Missing", "Peer"]

PEERS: tuple[type[Peer], ...] = (Systemd, Supervisord, Circus, GunicornHup, GunicornUsr2, Pm2)
