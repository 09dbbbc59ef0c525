"""Where the time of a run goes: each stage of it alone, in one process, beside the bare system calls.

The stages do what the processes of `onitu sync` do, with the same code, one after the other. Nobody waits, and nothing
crosses a socket. So their sum is the least processor time that the work can take as Onitu is made, and what a run takes
beyond it are sockets, threads and waiting.
"""
