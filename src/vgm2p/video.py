"""Short films of a team, rendered without a display."""

import warnings
from pathlib import Path

import jax
import numpy as np

from vgm2p.data.store import replace_file
from vgm2p.errors import InputError

SIZE, FRAMES_PER_SECOND = 320, 30


def film(policy, task, path: Path, seed: int = 0, seconds: float = 10.0) -> float:
    """Play one episode with the first training seed's policy and write it to `path` (.mp4 or .gif).

    Returns the return of the filmed part. Raises InputError for another ending or a missing package.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise InputError(f"can't write a video to {path}: end the name in .mp4 or .gif")
    env = task.make_env(1, threads=1)
    try:
        import imageio.v2 as imageio
        import mujoco
    except ModuleNotFoundError as error:
        raise InputError(f'a video needs {error.name}: pip install "vgm2p[mujoco,video]"') from error

    renderer = mujoco.Renderer(env.model, SIZE, SIZE)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False  # shadows cost 6 to 9 times the rest
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    data, camera = mujoco.MjData(env.model), mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(env.model, camera)
    camera.distance = 1.2 * env.model.stat.extent if task.robot != "halfcheetah" else 4.0

    state, total, frames = env.reset(seed), 0.0, []
    keys = jax.random.split(jax.random.key(seed), env.horizon)
    every = max(1, round(1 / (FRAMES_PER_SECOND * env.dt)))
    for step in range(min(env.horizon, int(seconds / env.dt))):
        if step % every == 0:
            data.qpos[:], data.qvel[:] = env.pose(0)
            mujoco.mj_forward(env.model, data)
            camera.lookat[:] = data.xpos[1]
            renderer.update_scene(data, camera)
            frames.append(renderer.render().copy())
        seeds = len(policy.seeds)
        states = np.broadcast_to(state, (seeds, *state.shape))
        action = policy.act(states, jax.numpy.broadcast_to(keys[step], (seeds,)))[0]
        state, reward, _, _ = env.step(action)
        total += float(reward[0])
        if not env.running[0]:
            break
    env.close()
    renderer.close()
    rate = round(1 / (env.dt * every))
    speed = {"fps": rate} if path.suffix == ".mp4" else {"duration": 1000 / rate}
    with warnings.catch_warnings():
        # JAX warns of any fork; this one turns into ffmpeg at once.
        warnings.filterwarnings("ignore", message="os.fork")
        replace_file(path, lambda p: imageio.mimsave(p, frames, **speed))
    return total
