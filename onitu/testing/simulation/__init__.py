"""Deterministic simulation: the whole of Onitu in one process, on a clock, a network, a store and disks in memory.

What runs is the real Referee and the real plug. From one seed come a script (`script`: what users do, and what fails,
when), the order in which tasks run, and every delay; so one seed is one history, and gives the same trace each time.
The data goes `script` → `users` and `faults` → `disk` → `driver` → plug → `onitu.wire.memory` → Referee → `history`.
"""
