"""How our own data are made: PPO, the ladder of its checkpoints, and the twins rolled out from it."""
