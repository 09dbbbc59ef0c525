"""ZeroMQ on Trio: thin socket wrappers and the messages that go through them."""
