"""Stops one thread of a process until stdin ends: stop_thread.py PID THREAD. Says `stopped`."""

import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) == -1:
        sys.exit(f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")


pid, name = sys.argv[1:]
tasks = f"/proc/{pid}/task"
[thread] = [int(it) for it in os.listdir(tasks) if open(f"{tasks}/{it}/comm").read().strip() == name]
ptrace(SEIZE, thread)
ptrace(INTERRUPT, thread)
os.waitpid(thread, WALL)
print("stopped", flush=True)
sys.stdin.read()
ptrace(DETACH, thread)
