"""Environments that score a team, behind one contract (`env.VecEnv`)."""
