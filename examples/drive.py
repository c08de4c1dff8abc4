"""Drive a simulated robot at its control rate with a team of agent processes.

    vgm2p export runs/hopper --out hopper
    python examples/drive.py hopper --episodes 2

The simulation stands for the robot: it shows its state when a control period begins and takes the team's
action for the next. An action that comes after its period has ended is late. Needs the packages of the task.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from team import Team

from vgm2p import task


def ask(team, sight):
    """The team's action, each agent told what it sees and which choices it has."""
    seen = sight.state[:1].repeat(len(team.names), 0) if sight.obs is None else sight.obs[0]
    return np.stack(team.act(seen, None if sight.legal is None else sight.legal[0]))


def episode(env, team, seed, hurry):
    """(return, seconds that each decision took, how late each period began); period by period."""
    sight, earned, took, late = env.reset(seed), 0.0, [], []
    began = time.perf_counter()
    for step in range(env.horizon):
        due = began + step * env.dt
        time.sleep(0 if hurry else max(0.0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)
        asked = time.perf_counter()
        action = ask(team, sight)
        took.append(time.perf_counter() - asked)
        sight, reward, _, _ = env.step(action[None])
        earned += float(reward[0])
        if not env.running[0]:
            break
    return earned, took, late


def quantiles(seconds):
    """Median, 99th percentile and the most, in milliseconds."""
    return ", ".join(f"{1e3 * x:.2f}" for x in np.quantile(seconds, [0.5, 0.99, 1]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("team", type=Path, help="folder that `vgm2p export` wrote")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of initial states and noise")
    parser.add_argument("--still", action="store_true", help="act without noise")
    parser.add_argument("--hurry", action="store_true", help="don't wait for the control rate")
    asked = parser.parse_args()

    model = json.loads((asked.team / "model.json").read_text())
    if (isinstance(model["env"], dict) and "module" in model["env"]) or model["history"] > 1:
        parser.error(
            "this drives robots and battles, one observation at a time; spread.py plays a PettingZoo team"
        )
    where = task(model["task"])
    env, scores, took, late = where.make_env(1, threads=1), [], [], []
    with Team(asked.team, asked.seed, asked.still) as team:
        ask(team, env.reset(asked.seed))  # the first answer comes once the processes are up
        for i in range(asked.episodes):
            earned, decided, began = episode(env, team, asked.seed + i, asked.hurry)
            scores.append(earned)
            took += decided
            late += began
            print(f"episode {i}: return {earned:.2f}, {len(decided)} steps", flush=True)
    env.close()
    error = np.std(scores) / max(1, len(scores) - 1) ** 0.5
    print(f"return {np.mean(scores):.2f} ± {error:.2f} (standard error over {len(scores)} episodes)")
    print(f"a decision of {len(team.names)} processes, ms: median, 99 %, most: {quantiles(took)}")
    if not asked.hurry:
        missed = np.mean(np.array(took) > env.dt)
        print(f"control rate {1 / env.dt:.0f} Hz; periods began late by, ms: {quantiles(late)}")
        print(f"actions after their period had ended: {missed:.2%}")


if __name__ == "__main__":
    main()
