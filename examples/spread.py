"""From your own environment to your own controllers: record, train, export, and act as separate processes.

    python examples/spread.py --out build/spread

Three agents of MPE's simple_spread learn from a log of mediocre teams: each heads for the landmark that a
fixed plan gives it, with random pushes of a strength that differs from episode to episode.
"""

import argparse
from pathlib import Path

import numpy as np
from mpe2 import simple_spread_v3
from team import Team

import vgm2p
from vgm2p.export import export

NAME, OPTIONS = "own/spread", {"continuous_actions": True}


def head_for_landmark(agent, obs, push, rng):
    """MPE's five numbers (nothing, left, right, down, up): towards landmark `agent`, and a random push."""
    x, y = obs[4 + 2 * agent : 6 + 2 * agent] - 1.5 * obs[0:2] + push * rng.normal(size=2)
    return np.clip([0, -x, x, -y, y], 0, 1).astype(np.float32)


def log(episodes):
    """The dataset that people leave behind: here 25 steps of each of many teams."""
    env = vgm2p.record(
        simple_spread_v3.parallel_env(**OPTIONS), NAME, module="mpe2.simple_spread_v3", options=OPTIONS
    )
    rng = np.random.default_rng(0)
    for seed in range(episodes):
        seen, _ = env.reset(seed=seed)
        push = rng.uniform(0.2, 3.0)
        while env.agents:
            actions = {name: head_for_landmark(i, seen[name], push, rng) for i, name in enumerate(env.agents)}
            seen, *_ = env.step(actions)
    return env.close()


def act(folder, episodes):
    """Returns of the exported team, every agent a process that sees its own observation alone."""
    env, returns = simple_spread_v3.parallel_env(**OPTIONS), []
    with Team(folder) as team:
        for seed in range(episodes):
            seen, _ = env.reset(seed=1_000_000 + seed)
            returns.append(0.0)
            while env.agents:
                actions = team.act([seen[name] for name in team.names])
                seen, rewards, *_ = env.step(dict(zip(team.names, actions, strict=True)))
                returns[-1] += float(np.mean(list(rewards.values())))
    return np.array(returns)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/spread"))
    parser.add_argument("--episodes", type=int, default=1000, help="that are recorded")
    parser.add_argument("--updates", type=int, default=3000)
    asked = parser.parse_args()

    try:
        data = vgm2p.task(NAME).load_data()
    except vgm2p.InputError:
        data = log(asked.episodes)
    returns = data.returns
    print(f"{NAME}: {len(data.reward):,} transitions, return {returns.mean():.2f} ± {returns.std():.2f}")
    experiment = vgm2p.Experiment(NAME, vgm2p.VGM2P(), asked.updates, eval_every=asked.updates)
    result = vgm2p.run(experiment, asked.out / "run")
    print(f"trained: return {result['mean']:.2f}, interval over seeds {np.round(result['interval'], 2)}")
    export(asked.out / "run", asked.out / "team")
    returns = act(asked.out / "team", 32)
    error = returns.std() / len(returns) ** 0.5
    print(
        f"as {vgm2p.load_policy(asked.out / 'run').spec.n} ONNX processes, training seed 0: ",
        end="",
    )
    print(f"return {returns.mean():.2f} ± {error:.2f}; in one process: {np.mean(result['returns'][0]):.2f}")


if __name__ == "__main__":
    main()
