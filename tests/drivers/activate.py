"""Becomes a program that has got listening sockets, as systemd starts one:

    activate.py NAME=127.0.0.1:27018,NAME=/run/control.sock PROGRAM ARGUMENT...
"""

import os
import socket
import sys

specifications, program = sys.argv[1].split(","), sys.argv[2:]
sockets = []
for specification in specifications:
    _, address = specification.split("=")
    if address.startswith("/"):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen()
    else:
        host, port = address.rsplit(":", 1)
        listening = socket.create_server((host, int(port)))
    sockets.append(listening)
# Above all numbers that are given below, so that none is overwritten.
copies = [os.dup2(listening.fileno(), 100 + index) for index, listening in enumerate(sockets)]
for index, copy in enumerate(copies):
    os.dup2(copy, 3 + index)
os.closerange(3 + len(copies), 200)
os.environ["LISTEN_FDS"] = str(len(copies))
os.environ["LISTEN_FDNAMES"] = ":".join(it.split("=")[0] for it in specifications)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(program[0], program)
