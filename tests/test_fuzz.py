"""Broken files: whatever is done to them, reading gives the data or an error that names the file.

Every case is read in a process of its own that must neither crash nor hang. What is done to a file: bits
flipped, parts cut off, removed, doubled or overwritten. Our own files and the HDF5 files that we write carry
checksums, so that any change of what they say is told; NumPy's carry none and Parquet's are optional: there a
changed number that is still a number can't be told, and only shapes, types and finiteness are held to.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CASES = """
import json, shutil, sys
from pathlib import Path
import numpy as np
from test_importers import FIELDS, fighters, robots, rows_of
from vgm2p.data import store
from vgm2p.data.importing import export_data, import_data
from vgm2p.errors import InputError
import pyarrow, pyarrow.parquet

root, kind, seed, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(seed)

def made(folder):
    folder.mkdir(parents=True)
    if kind == "ours":
        store.save(fighters(), folder)
        return [folder / "data.safetensors", folder / "card.json"], lambda: store.load(folder)
    if kind == "omiga":
        path = folder / "Hopper-v2-3x1-medium.hdf5"
        export_data(robots((4, 3)), "omiga", str(path))
        return [path], lambda: import_data("omiga", str(path), "own/fuzz")
    if kind == "vault":
        path = folder / "ours.vlt/Row"
        export_data(fighters(), "vault", str(path), ends="row")
        held = [p for p in path.rglob("*") if p.is_file()]
        return held, lambda: import_data("vault", str(path), "own/fuzz", ends="row")
    path = folder / "plain"
    if kind == "numpy":
        export_data(fighters(), "folder", str(path))
    else:
        path.mkdir()
        rows = {n: x for n, x in rows_of(fighters(), "row")._asdict().items() if x is not None}
        flat = {n: x.reshape(len(x), -1) if x.ndim > 1 else x for n, x in rows.items()}
        table = pyarrow.table({n: list(x) if x.ndim > 1 else x for n, x in flat.items()})
        pyarrow.parquet.write_table(table, path / "0.parquet", write_page_checksum=True)
    return sorted(path.iterdir()), lambda: import_data("folder", str(path), "own/fuzz", agents=2, ends="row")

def broken(content):
    data, what = bytearray(content), rng.integers(6)
    at = int(rng.integers(len(data))) if data else 0
    until = min(len(data), at + int(rng.integers(1, 64)))
    if what == 0:
        for i in rng.integers(len(data), size=rng.integers(1, 8)): data[i] ^= 1 << int(rng.integers(8))
    elif what == 1: del data[at:]
    elif what == 2: del data[at:until]
    elif what == 3: data[at:at] = data[at:until]
    elif what == 4: data[at:until] = rng.bytes(until - at)
    else: data[:min(len(data), 256)] = bytes(rng.permutation(list(data[:min(len(data), 256)])))
    return bytes(data)

paths, read = made(root / "work")
good, whole = {p: p.read_bytes() for p in paths}, read()
fields = {n: getattr(whole, n) for n in FIELDS}
forget = lambda: shutil.rmtree(store.home() / "own/fuzz", ignore_errors=True)
forget()
told = read_anyway = 0
for case in range(count):
    path = paths[int(rng.integers(len(paths)))]
    bad = broken(good[path])
    path.write_bytes(bad)
    (root / "last").write_text(json.dumps([str(path), case]))
    (root / "bad").write_bytes(bad)
    try:
        found = read()
    except InputError as error:
        told += 1
        assert any(name in str(error) for name in (str(root), "own/fuzz", "test/")), f"no file: {error}"
    else:
        read_anyway += 1
        for name, x in fields.items():
            y = getattr(found, name)
            same = (x is None) == (y is None)
            same = same and (x is None or (x.dtype == y.dtype and x.shape == y.shape))
            exact = kind in ("ours", "omiga")
            if exact and path.name != "card.json":
                assert same and (x is None or np.array_equal(x, y)), f"{name} was read wrong"
            if y is not None and y.dtype.kind == "f":
                assert np.isfinite(y).all(), f"{name} is not finite"
    forget()
    path.write_bytes(good[path])
print(json.dumps({"told": told, "read": read_anyway}))
"""


def fuzz(kind, seed, count, tmp_path) -> dict:
    script, root = tmp_path / "cases.py", tmp_path / "fuzz"
    script.write_text(CASES)
    root.mkdir()
    environment = {
        "VGM2P_DATA": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(__file__).parent),
        "PATH": "/usr/bin",
    }
    command = [sys.executable, "-W", "ignore", str(script), str(root), kind, str(seed), str(count)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 + count)
    last = (root / "last").read_text() if (root / "last").exists() else "before the first"
    assert told.returncode == 0, (
        f"{kind} seed {seed}, case {last}: status {told.returncode}\n{told.stderr[-3000:]}"
    )
    shutil.rmtree(root)
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "count"), [("ours", 100), ("omiga", 60), ("numpy", 100), ("parquet", 60), ("vault", 10)]
)
def test_broken_files_are_told(kind, count, tmp_path):
    found = fuzz(kind, 0, count, tmp_path)
    assert found["told"] + found["read"] == count
    assert found["told"] > (0.05 if kind == "vault" else 0.3) * count  # of a vault much is never read


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [("ours", 4000), ("omiga", 2000), ("numpy", 3000), ("parquet", 1500), ("vault", 300)]
)
def test_ten_thousand_broken_files_are_told(kind, count, tmp_path):
    found = fuzz(kind, 1, count, tmp_path)
    assert found["told"] > (0.05 if kind == "vault" else 0.3) * count  # of a vault much is never read


def test_no_pickle_is_ever_loaded():
    """Not by us: nothing in the package names it, and NumPy is told not to."""
    package = Path(__file__).parents[1] / "src/vgm2p"
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        for line in text.splitlines():
            assert "np.load(" not in line or "allow_pickle=False" in line, f"{path}: {line}"


def test_every_array_of_objects_is_refused(tmp_path):
    from vgm2p.data.importing import import_data
    from vgm2p.errors import InputError

    np.save(tmp_path / "reward.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"reward.npy is truncated, or no array of numbers"):
        import_data("folder", str(tmp_path), "own/objects", agents=2)
