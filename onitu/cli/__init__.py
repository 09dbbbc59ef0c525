"""What a person types, and what is said back: configuration, commands, output.

Importing this package costs nothing: Trio, ZeroMQ and the drivers are imported by the commands that need them.
"""
