"""Short films of a team, rendered without a display."""

import math
import warnings
from pathlib import Path

import jax
import numpy as np

from vgm2p.data.store import replace_file
from vgm2p.errors import InputError, needs
from vgm2p.types import check_seed

SIZE, FRAMES_PER_SECOND = 320, 30


def film(policy, task, path: Path, seed: int = 0, seconds: float = 10.0) -> float:
    """Play one episode with the first training seed's policy and write it to `path` (.mp4 or .gif).

    Returns the return of the filmed part. InputError for another ending, a seed or a length that is none, a
    missing package, and for an environment unlike the one that the team learned in.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise InputError(f"can't write a video to {path}: end the name in .mp4 or .gif")
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds {seconds} must be above 0 and finite")
    check_seed(seed)
    try:
        import imageio.v2 as imageio
    except ModuleNotFoundError as error:
        raise needs("a video", "video") from error

    env = policy.env(task, 1, threads=1)
    every = max(1, round(1 / (FRAMES_PER_SECOND * env.dt)))
    try:
        total, frames = _played(policy, env, task.id, seed, seconds, every)
    finally:
        env.close()
    rate = round(1 / (env.dt * every))
    speed = {"fps": rate} if path.suffix == ".mp4" else {"duration": 1000 / rate}
    with warnings.catch_warnings():
        # JAX warns of any fork; this one turns into ffmpeg at once.
        warnings.filterwarnings("ignore", message="os.fork")
        replace_file(path, lambda p: imageio.mimsave(p, frames, **speed))
    return total


def _played(policy, env, name, seed, seconds, every):
    """(return, pictures) of an episode's first seconds, every so many steps and at its end."""
    sight, total, frames = env.reset(seed), 0.0, [env.picture(SIZE)]
    policy.check(env, sight, name)
    seeds, keys = len(policy.seeds), jax.random.split(jax.random.key(seed), env.horizon)
    for step in range(min(env.horizon, int(seconds / env.dt))):
        shown = jax.tree.map(lambda x: np.broadcast_to(x, (seeds, *x.shape)), sight)
        action = policy.act(shown, jax.numpy.broadcast_to(keys[step], (seeds,)))[0]
        sight, reward, _, _ = env.step(action)
        total += float(reward[0])
        if step % every == every - 1 or not env.running[0]:
            frames.append(env.picture(SIZE))
        if not env.running[0]:
            break
    return total, frames
