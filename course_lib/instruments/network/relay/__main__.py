"""``python -m course_lib.instruments.network.relay HANDLE``: serve the control socket with this number."""

from __future__ import annotations

import socket
import sys

from course_lib.instruments.network.relay.loop import main

if __name__ == "__main__":
    if sys.platform == "win32":  # the socket itself comes in by standard input
        main(socket.fromshare(sys.stdin.buffer.read()))
    else:
        main(socket.socket(fileno=int(sys.argv[1])))
