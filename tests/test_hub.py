"""The Hub's own client against a server on this machine that answers as the Hub does."""

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vgm2p.data.store import sha256
from vgm2p.errors import InputError
from vgm2p.hub import push

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Files by their path; `files` is filled by the test."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.split("?")[0]
        if "/tree/" in path:
            tree = [
                {"type": "file", "path": n[1:], "size": len(x), "oid": "0"} for n, x in self.files.items()
            ]
            content = json.dumps(tree).encode()
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name.rsplit("/", 1)[1]} for name in self.files]
            content = json.dumps(
                {"id": "me/team", "sha": COMMIT, "siblings": siblings, "private": False}
            ).encode()
        else:
            content = self.files.get("/" + path.split("/resolve/")[-1].split("/", 1)[-1])
        if content is None:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0] or 0)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(content[start:])

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub(tmp_path):
    """Runs Python in a process of its own, with the Hub's address being ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }

    def python(code):
        command = [sys.executable, "-c", f"from vgm2p.hub import *; from pathlib import Path; {code}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    yield python
    server.shutdown()
    server.server_close()


def packed(path, **files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name.replace("__", "/").replace("UP", ".."), content)
    return path.read_bytes()


def test_a_vault_is_fetched_unpacked_and_its_digest_kept(hub, tmp_path):
    Hub.files = {"/core/3m.zip": packed(tmp_path / "a.zip", **{"3m.vlt__Good__metadata.json": "{}"})}
    fetch = f"print(fetch(OG_MARL, 'core/3m.zip', Path({str(tmp_path / 'vaults')!r})))"
    told = hub(fetch)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "vaults/3m.vlt/Good/metadata.json").read_text() == "{}"
    kept = json.loads((tmp_path / "vaults/sha256.json").read_text())
    assert kept == {"InstaDeepAI/og-marl/core/3m.zip": sha256(tmp_path / "a.zip")}
    kept["InstaDeepAI/og-marl/core/3m.zip"] = "f" * 64
    (tmp_path / "vaults/sha256.json").write_text(json.dumps(kept))
    assert "had ffffffffffff... when it was fetched first" in hub(fetch).stderr


def test_a_zip_file_can_not_write_elsewhere(hub, tmp_path):
    Hub.files = {"/core/evil.zip": packed(tmp_path / "a.zip", UP__evil="x")}
    told = hub(f"fetch(OG_MARL, 'core/evil.zip', Path({str(tmp_path / 'vaults')!r}))")
    assert "leads out of" in told.stderr
    assert not (tmp_path / "evil").exists()


def test_a_zip_file_can_not_replace_the_record_of_digests(hub, tmp_path):
    Hub.files = {"/core/evil.zip": packed(tmp_path / "a.zip", **{"sha256.json": "{}"})}
    told = hub(f"fetch(OG_MARL, 'core/evil.zip', Path({str(tmp_path / 'vaults')!r}))")
    assert "or replaces sha256.json" in told.stderr
    assert "core/evil.zip" in (tmp_path / "vaults/sha256.json").read_text()


def test_a_damaged_zip_file_leaves_nothing_half(hub, tmp_path):
    whole = bytearray(packed(tmp_path / "a.zip", first="x" * 1000, second="y" * 1000))
    whole[whole.index(b"second") + 50] ^= 255
    Hub.files = {"/core/3m.zip": bytes(whole)}
    told = hub(f"fetch(OG_MARL, 'core/3m.zip', Path({str(tmp_path / 'vaults')!r}))")
    assert "is damaged" in told.stderr
    assert not (tmp_path / "vaults/first").exists()


def test_a_team_is_pulled_without_what_could_be_unpickled(hub, tmp_path):
    Hub.files = {"/model.json": b"{}", "/agent_0.onnx": b"graph", "/weights.pkl": b"no"}
    told = hub(f"pull('me/team', Path({str(tmp_path / 'team')!r}))")
    assert told.returncode == 0, told.stderr
    found = {path.name for path in (tmp_path / "team").iterdir() if path.is_file()}
    assert found == {"model.json", "agent_0.onnx"}


def test_what_is_not_there_is_told(hub, tmp_path):
    Hub.files = {}
    told = hub(f"fetch(OG_MARL, 'core/4m.zip', Path({str(tmp_path)!r}))")
    assert "InputError: can't fetch core/4m.zip of InstaDeepAI/og-marl from the Hub" in told.stderr
    with pytest.raises(InputError, match="neither a run nor an exported team"):
        push(tmp_path, "me/team")
