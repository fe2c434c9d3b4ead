# SPDX-License-Identifier: Apache-2.0
"""freeze.py PROCESS NAME: the thread of that name stands still as long as this runs."""
import ctypes
import os
import pathlib
import sys

PTRACE_INTERRUPT = 0x4207
PTRACE_SEIZE = 0x4206
WALL = 0x40000000


def main(process, name):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        if (task / "comm").read_text().strip() != name:
            continue
        for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
            if libc.ptrace(request, int(task.name), None, None) < 0:
                sys.exit(os.strerror(ctypes.get_errno()))
        print("frozen", flush=True)
        stopped = True
        while stopped:  # who is not waited for does not end
            stopped = os.WIFSTOPPED(os.waitpid(int(task.name), WALL)[1])
        return
    sys.exit(f"process {process} has no thread {name}")


main(*sys.argv[1:])
