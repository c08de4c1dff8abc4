"""What does it cost to learn from data larger than memory? It is written, checked, converted, trained on.

    python benchmarks/stream.py --gigabytes 20 --allowed 2

Writes a dataset of that size (random walks of six agents), each step in a process of its own that may not
hold more than `allowed` gigabytes of memory (RLIMIT_DATA; pages of mapped files do not count). At the end the
same training on a part of the data, in memory and through a window of the same size: milliseconds per update,
and their ratio. Needs three times as much room on disk.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vgm2p import VGM2P, Experiment, run, task
from vgm2p.data import store
from vgm2p.data.check import check
from vgm2p.data.dataset import Dataset
from vgm2p.data.importing import export_data, import_data
from vgm2p.data.writer import Writer

STATE, AGENTS, LENGTH = 200, 6, 1000
NAME = "own/stream"


def write(gigabytes):
    """A dataset of about so many gigabytes, some episodes at a time."""
    row = 4 * (STATE + AGENTS + 1)
    count = int(gigabytes * 1e9 / row / LENGTH)
    card = {"id": NAME, "source": "benchmarks/stream.py", "agents": AGENTS, "horizon": LENGTH, "env": None}
    writer, rng = Writer(store.home() / NAME, card), np.random.default_rng(0)
    for _ in range(count // 10):
        steps = rng.normal(size=(10, LENGTH + 1, STATE)).astype(np.float32)
        action = rng.normal(size=(10 * LENGTH, AGENTS, 1)).astype(np.float32)
        writer.add(
            Dataset(
                state=np.cumsum(steps, 1, dtype=np.float32).reshape(-1, STATE),
                action=action,
                reward=(action.sum((1, 2)) + rng.normal()).astype(np.float32),
                lengths=np.full(10, LENGTH, np.int32),
                terminated=np.zeros(10, bool),
                card=card,
            )
        )
    return writer.finish().card["transitions"]


def train(folder, updates, window):
    """Seconds per update, without the first log's, which compile."""
    seen = []

    class Clock:
        def advanced(self, step, metrics):
            seen.append((step, time.monotonic()))

        def evaluated(self, step, episodes):
            pass

    run(Experiment(NAME, VGM2P(), updates, seeds=(0,), window=window), folder, Clock())
    (first, began), (last, ended) = seen[0], seen[-1]
    return (ended - began) / (last - first)


def step(name, scratch, updates, window):
    """One step of the chain, in this process."""
    if name == "check":
        return [finding.told for finding in check(task(NAME).load_data())][:1]
    if name == "convert":
        export_data(task(NAME).load_data(), "folder", str(scratch / "plain"))
        shutil.rmtree(store.home() / NAME)  # room for what is read back
        made = import_data("folder", str(scratch / "plain"), NAME, agents=AGENTS, ends="row")
        shutil.rmtree(scratch / "plain")
        return made.card["transitions"]
    return train(scratch / f"run-{window}", updates, window)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--allowed", type=float, default=2, help="gigabytes of memory for each step")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--window", type=int, default=100_000)
    parser.add_argument("--scratch", type=Path, default=Path("build/stream"))
    parser.add_argument("--step", choices=("write", "check", "convert", "train"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ["VGM2P_DATA"] = str(asked.scratch / "data")
    if asked.step:
        limit = int(asked.allowed * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        told = (
            write(asked.gigabytes)
            if asked.step == "write"
            else step(asked.step, asked.scratch, asked.updates, asked.window)
        )
        print(json.dumps(told))
        return
    for name in ("write", "check", "convert", "train"):
        began = time.monotonic()
        command = [sys.executable, __file__, *sys.argv[1:], "--step", name]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode:
            sys.exit(f"{name} failed: {told.stderr[-2000:]}")
        print(f"{name}: {time.monotonic() - began:.0f} s, {told.stdout.strip()}", flush=True)
    whole = task(NAME).load_data()
    part = whole.take(np.arange(asked.window // LENGTH))
    shutil.rmtree(store.home() / NAME)
    store.save(part, store.home() / NAME)
    held = train(asked.scratch / "held", asked.updates, None)
    through = train(asked.scratch / "through", asked.updates, asked.window)
    print(f"an update on {asked.window:,} transitions: {1e3 * held:.2f} ms with all of them in memory,")
    print(f"{1e3 * through:.2f} ms through a window of as many ({through / held:.2f} x)")
    shutil.rmtree(asked.scratch)


if __name__ == "__main__":
    main()
