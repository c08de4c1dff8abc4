"""To and from the Hugging Face Hub: public data by name, trained teams as repositories; nothing unpickled."""

import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from vgm2p.data.store import read_json, sha256, write_json
from vgm2p.errors import InputError, needs

# What is pushed and pulled: nothing that could be unpickled or run.
PLAIN = ("*.json", "*.jsonl", "*.safetensors", "*.onnx", "*.stablehlo", "*.md", "*.png", "*.mp4")
OG_MARL = "InstaDeepAI/og-marl"
RECORD = "sha256.json"  # of digests, beside what was fetched


def fetch(repo: str, path: str, out: Path) -> Path:
    """Download a file of a dataset repository into `out`, unpacked if it is a zip file; returns where it is.

    A download that was cut goes on. The file's sha256 is kept in `out`/sha256.json and must be the same next
    time. InputError if it is not, for paths in a zip file that lead out of `out`, and where the Hub can't be
    read.
    """
    hub = _hub()
    try:
        found = Path(hub.hf_hub_download(repo, path, repo_type="dataset", local_dir=out))
    except (OSError, ValueError, hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError) as error:
        raise InputError(f"can't fetch {path} of {repo} from the Hub: {error}") from error
    record = out / RECORD
    known = read_json(record) if record.exists() else {}
    name, digest = f"{repo}/{path}", sha256(found)
    if known.setdefault(name, digest) != digest:
        raise InputError(
            f"{found} has sha256 {digest[:12]}..., and had {known[name][:12]}... when it was fetched first: "
            f"it was changed there; if that is right, delete its line in {record}"
        )
    write_json(record, known)
    return _unpacked(found, out) if found.suffix == ".zip" else found


def push(folder: Path, repo: str) -> str:
    """Upload a run, or an exported team, as a model repository; returns its address. Log in first."""
    if not any((folder / name).exists() for name in ("experiment.json", "model.json")):
        raise InputError(f"{folder} is neither a run nor an exported team: no experiment.json, no model.json")
    hub = _hub()
    try:
        hub.create_repo(repo, exist_ok=True)
        return str(hub.upload_folder(folder_path=folder, repo_id=repo, allow_patterns=list(PLAIN)).repo_url)
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise InputError(f"can't push {folder} to {repo}: {error}") from error


def pull(repo: str, out: Path) -> Path:
    """Download a run or an exported team into `out`: plain files only, whatever else lies there."""
    hub = _hub()
    try:
        return Path(hub.snapshot_download(repo, local_dir=out, allow_patterns=list(PLAIN)))
    except (OSError, ValueError, hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError) as error:
        raise InputError(f"can't pull {repo} from the Hub: {error}") from error


def _unpacked(path: Path, out: Path) -> Path:
    """What the zip file holds, moved into `out` once all of it is there."""
    try:
        with zipfile.ZipFile(path) as packed, tempfile.TemporaryDirectory(dir=out) as whole:
            _check_members(packed, path, out)
            packed.extractall(whole)
            shutil.copytree(whole, out, dirs_exist_ok=True, copy_function=os.replace)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and fetch it again") from error
    except OSError as error:
        raise InputError(f"can't unpack {path} into {out}: {error.strerror}; free some space") from error
    return out


def _check_members(packed, path, out) -> None:
    """InputError for members that lead out of `out` or replace our record, and for more than fits there."""
    for name in packed.namelist():
        place = (out / name).resolve()
        if not place.is_relative_to(out.resolve()) or place == (out / RECORD).resolve():
            raise InputError(f"{path} holds {name!r}, which leads out of {out} or replaces {RECORD}")
    size, free = sum(x.file_size for x in packed.infolist()), shutil.disk_usage(out).free
    if size > free:
        raise InputError(
            f"{path} unpacks to {size:,} bytes, and {out} has room for {free:,}: free some space"
        )


def _hub():
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise needs("the Hub", "hub") from error
    return huggingface_hub
