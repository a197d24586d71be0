"""A chat endpoint's answers and faults; a real server on this machine plays it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from diorama.errors import InputError
from diorama.text.endpoint import ask


class _Chat(BaseHTTPRequestHandler):
    """The last message says how to behave."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        if asked == "fail":
            self.send_response(503)
            self.end_headers()
            return
        if asked == "hang":
            threading.Event().wait(0.5)
            return
        said = "" if asked == "nothing" else f'"{asked}\n {body["model"]} {body["temperature"]} {self.headers["Authorization"]}"'
        answer = b"no json" if asked == "garbage" else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Chat)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def say(url: str, text: str, *, timeout: float = 5.0, key: str | None = None) -> str:
    message = {"role": "user", "content": text}
    return ask([message], url, "m", key, purpose="caption", remedy="use another", temperature=0.2, timeout=timeout)


def test_the_answer_comes_without_its_quotation_marks(endpoint: str) -> None:
    assert say(endpoint, "a ball", key="k") == "a ball m 0.2 Bearer k"
    assert say(f"{endpoint}/chat/completions", "a ball") == "a ball m 0.2 None"


@pytest.mark.parametrize(
    ("asked", "message"), [("fail", "status 503"), ("garbage", "as a chat endpoint does"), ("nothing", "no text"), ("hang", r"within 0\.2 s")]
)
def test_faults_name_the_purpose_and_the_remedy_in_one_sentence(endpoint: str, asked: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        say(endpoint, asked, timeout=0.2 if asked == "hang" else 5.0)
    assert str(caught.value).startswith("caption endpoint")
    assert str(caught.value).endswith("use another")
    assert "\n" not in str(caught.value)


def test_other_addresses_are_refused() -> None:
    with pytest.raises(InputError, match="http://"):
        say("file:///etc/hosts", "x")
