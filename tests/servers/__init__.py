"""Real servers for the tests of drivers, each started as a child process on loopback and ended by its pid."""
