"""One thread for all tests here, a server in the place of an official source, a log of clicks."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.fake_sets import standing_in
from tests.tasks.toy_clicks import NUM_ROWS, counted, stand_in


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small: two threads are slower than one, on a busy machine by far.

    What a test draws from the global generator does not depend on the tests before it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def server(monkeypatch) -> Iterator[http.server.HTTPServer]:
    """A server of one file.

    `content` is the file's, `url` its address; `cuts` are the bytes after which the next answers
    break off; `ranges` says whether it goes on from the middle; `requests` are the ranges asked.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.headers.get("Range"))
            if self.path != "/file":
                self.send_error(404)
                return
            first = 0
            if self.headers.get("Range") and state.ranges:
                first = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if first >= len(state.content):
                    self.send_error(416)
                    return
                self.send_response(206)
            else:
                self.send_response(200)
            body = state.content[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    state.content, state.cuts, state.requests, state.ranges = b"", [], [], True
    state.url = f"http://127.0.0.1:{state.server_port}/file"
    thread = threading.Thread(target=state.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.shutdown()
    thread.join()
    state.server_close()


@pytest.fixture
def click_log(tmp_path) -> Iterator[Path]:
    """A folder in whose `sets` criteo_10k has `NUM_ROWS` rows."""
    with standing_in(stand_in(tmp_path / "sets", [counted(i) for i in range(NUM_ROWS)])):
        yield tmp_path
