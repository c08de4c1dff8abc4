"""A team of agent processes that share nothing, driven from one place. Needs numpy, and agent.py."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

AGENT = Path(__file__).with_name("agent.py")


class Team:
    """Starts a process for every agent of an exported team; close it, or use it in a `with`."""

    def __init__(self, folder, seed=0, still=False, w=1.0):
        model = json.loads((Path(folder) / "model.json").read_text())
        self.names, self.processes, self.shapes, self.sizes = list(model["agents"]), [], [], []
        for i, agent in enumerate(model["agents"].values()):
            shared = len(agent["inputs"]["noise"]["shape"]) == 2 and model["fields"].get("shared_noise")
            own = seed if shared else seed * len(self.names) + i
            command = [
                sys.executable,
                str(AGENT),
                str(Path(folder) / agent["file"]),
                f"--seed={own}",
                f"--w={w}",
            ]
            command += ["--still"] if still else []
            self.processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            )
            self.shapes.append(agent["action"])
            self.sizes.append(agent["inputs"]["obs"]["shape"][0])

    def act(self, obs, legal=None):
        """Every agent's action from its own observation: all are asked, then all are heard."""
        for i, process in enumerate(self.processes):
            seen = np.asarray(obs[i], np.float32).ravel()
            if len(seen) != self.sizes[i]:  # the rest would be read as part of the next message
                raise ValueError(
                    f"{self.names[i]} was shown {len(seen)} numbers, its graph takes {self.sizes[i]}"
                )
            message = seen.tobytes()
            process.stdin.write(
                message + (b"" if legal is None else np.asarray(legal[i], np.bool_).tobytes())
            )
        return [
            self._heard(process, action) for process, action in zip(self.processes, self.shapes, strict=True)
        ]

    def _heard(self, process, action):
        dtype, shape = np.dtype(action["dtype"]), action["shape"]
        length, message = dtype.itemsize * int(np.prod(shape)), b""
        while len(message) < length:
            part = process.stdout.read(length - len(message))
            if not part:
                raise RuntimeError(f"agent process {process.args[2]} ended with {process.wait()}")
            message += part
        return np.frombuffer(message, dtype).reshape(shape)

    def close(self):
        """End every process."""
        for process in self.processes:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
