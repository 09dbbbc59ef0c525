"""What the Referee remembers: nodes, the index of what is left, the journal; through redis-py, by group commit."""
