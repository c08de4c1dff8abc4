"""One agent as a process of its own: observations on stdin, actions on stdout. Needs onnxruntime and numpy.

    python agent.py agent_0.onnx --seed 0

A message in is the observation (float32), then, of agents that choose, which choices are legal (one byte
each). A message out is the action (float32) or the choice (int32). Sizes are the graph's. The process ends
with its input. It knows nothing of the other agents; where a team shares its noise, all have the same seed.
"""

import argparse
import sys

import numpy as np
import onnxruntime


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", help="the exported agent, such as agent_0.onnx")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--still", action="store_true", help="act without noise")
    parser.add_argument(
        "--w", type=float, default=1.0, help="strength of guidance, if the graph asks for one"
    )
    asked = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a pass is too short to share
    options.log_severity_level = 3  # it warns of constants that it can't fold
    session = onnxruntime.InferenceSession(asked.graph, options, providers=["CPUExecutionProvider"])
    shapes = {x.name: x.shape for x in session.get_inputs()}
    rng = np.random.default_rng(asked.seed)
    given = {"w": np.asarray(asked.w, np.float32)} if "w" in shapes else {}
    sizes = {name: int(np.prod(shapes[name])) for name in ("obs", "legal") if name in shapes}
    length = 4 * sizes["obs"] + sizes.get("legal", 0)
    while len(message := sys.stdin.buffer.read(length)) == length:
        given["obs"] = np.frombuffer(message, np.float32, sizes["obs"])
        if "legal" in sizes:
            given["legal"] = np.frombuffer(message, np.bool_, offset=4 * sizes["obs"])
        if "noise" in shapes:
            given["noise"] = rng.normal(size=shapes["noise"]).astype(np.float32) * (not asked.still)
        action = session.run(None, given)[0]
        sys.stdout.buffer.write(action.tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
