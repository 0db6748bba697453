"""Only the instance's own session is believed."""

import os
import select
import socket
import subprocess
import sys

from regrow.supervisor.notify import NotifySocket

SEND = (
    "import socket,sys; s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'READY=1', sys.argv[1]); input()"
)


def test_a_message_from_another_session_is_not_believed(tmp_path):
    listening = NotifySocket(str(tmp_path / "n"))
    argv = [sys.executable, "-c", SEND, listening.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as sender:
        assert select.select([listening], [], [], 20)[0]
        assert listening.receive(os.getpid()) == {}
        assert listening.receive(os.getpid()) is None
        sender.communicate(b"\n")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as sender:
        assert select.select([listening], [], [], 20)[0]
        assert listening.receive(sender.pid) == {"READY": "1"}
        sender.communicate(b"\n")
    listening.close()


def test_passed_files_are_closed(tmp_path):
    listening = NotifySocket(str(tmp_path / "n"))
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(listening.path)
        socket.send_fds(sender, [b"BARRIER=1"], [writing])
    os.close(writing)
    assert listening.receive(os.getpid()) == {"BARRIER": "1"}
    assert os.read(reading, 1) == b""  # end of file: the passed copy is closed too
    os.close(reading)
    listening.close()
