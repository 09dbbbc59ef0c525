"""What every driver has to do, as tests that anybody can run against a driver of their own.

    pytest --pyargs onitu.testing.conformance --driver mymodule:MyDriver --server mytests:MyServer

A `Server` says how an empty root is made, what a user does there behind Onitu's back, and which faults can be had. What
the driver's capabilities leave out, and faults that the server cannot have, are skipped, and say so. pytest and
pytest-trio are needed: `pip install 'onitu[test]'`.
"""

from .server import Denied, Fault, LocalServer, Root, Server

__all__ = ["Denied", "Fault", "LocalServer", "Root", "Server"]
