"""An OpenAI-compatible server on the loopback that answers from a script. For unit tests alone."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, tokens=None):
    """A reply; `tokens` are pairs of a token and the log probabilities in its place."""
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    if tokens is not None:
        content = [
            {
                "token": token,
                "logprob": likely.get(token, -1.0),
                "top_logprobs": [{"token": t, "logprob": p} for t, p in likely.items()],
            }
            for token, likely in tokens
        ]
        choices[0]["logprobs"] = {"content": content}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m-2", "usage": usage}
    return 200, json.dumps(whole | {"choices": choices})


class _Http(ThreadingHTTPServer):
    request_queue_size = 64  # by default a sixth connection at a time may be refused


class Server:
    """Answers (status, body) in the order of a script, the last for ever."""

    def __init__(self, *script):
        self.asked, self.keys, self.headers, self.listed = [], [], [], []
        self.models = 200, '{"object": "list", "data": []}'
        script, server = list(script), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(json.loads(body))
                server.keys.append(self.headers["Authorization"])
                server.headers.append(dict(self.headers))
                status, text = script.pop(0) if len(script) > 1 else script[0]
                self._answer(status, text)

            def do_GET(self):
                server.listed.append(self.path)
                self._answer(*server.models)

            def _answer(self, status, text):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words):
                pass

        self._http = _Http(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def starting():
    """Starts a server for each script; all are closed at the end."""
    servers = []

    def start(*script):
        servers.append(Server(*script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
