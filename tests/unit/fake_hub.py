"""A hub on the loopback: folders are its models; some it hides, some it gates."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from avr.engines import model_config


class FakeHub:
    """Answers what `hf_hub_download` asks, in the words of the real one.

    `models` maps a name to its folder, `gated` and `broken` names to the status they answer with.
    `asked` lists the paths of all requests.
    """

    def __init__(self, models: dict[str, Path]):
        self.models = models
        self.gated: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        self.url = ""

    def commit(self, name: str) -> str:
        """Another one whenever a file of the model is another."""
        digest = hashlib.sha1()
        for file in sorted(self.models[name].iterdir()):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(path)
        if "/resolve/" not in path:
            return 200, {}, b""
        name, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if name in self.broken:
            return self.broken[name], {}, b""
        if name in self.gated:
            return self.gated[name], {"X-Error-Code": "GatedRepo"}, b""
        if name not in self.models:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", commit := self.commit(name)):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        there = self.models[name] / file
        if not there.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        body = there.read_bytes()
        tag = hashlib.sha1(body).hexdigest()
        return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, body


@contextmanager
def serving(hub: FakeHub):
    """The hub's address while the block runs, as `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_of(models: dict[str, Path], cache: Path):
    """A hub that this process asks while the block runs, with an empty cache."""
    with serving(FakeHub(models)) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        point_at(hub.url, patch)
        yield hub
    forget()


def point_at(url: str, patch: pytest.MonkeyPatch):
    """Do what HF_ENDPOINT does in a process that starts."""
    patch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    forget()


def forget():
    """What this process knows of hubs."""
    model_config._from_hub.cache_clear()
    model_config.hub_out_of_reach.cache_clear()
