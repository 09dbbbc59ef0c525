"""The supervisor: one Trio nursery, a supervised task for each child process, and nothing else.

`onitu.supervisor.run` is where to begin. Nothing is imported here, so that the store's parent starts fast.
"""
