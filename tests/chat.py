"""A chat endpoint on this machine, for what speaks to one: a real server that answers as a test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

Say = Callable[[dict[str, Any], str, str], str]
"""The request's body, its path and its authorisation to what the model says."""


@contextlib.contextmanager
def chat_server(say: Say) -> Iterator[str]:
    """Serve; a last message of fail, hang, garbage or nothing is answered with that fault. Yields the base address."""

    class Chat(BaseHTTPRequestHandler):
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
            said = "" if asked == "nothing" else say(body, self.path, str(self.headers["Authorization"]))
            answer = b"no json" if asked == "garbage" else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
