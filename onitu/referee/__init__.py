"""The Referee: the only writer of the state. `machine`, `planner` and `rules` are pure; the rest carries them out."""
