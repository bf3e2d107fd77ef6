"""A scripted stand-in for the model's API: the Anthropic Messages API with SSE streaming, on loopback.

It records each request for the main conversation (those with tools), and answers the n-th of them with
the n-th turn of the script: a list of blocks, `{"text": …}` or `{"tool": name, "input": {…}}`. A script
may be a function of the request, too. Requests without tools (titles, counts) get a short text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = dict[str, Any]
Script = Callable[[int, dict[str, Any]], list[Block]]


class ModelApi:
    def __init__(self, script: Script) -> None:
        self.requests: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(raw or b"{}")
                if not self.path.startswith("/v1/messages"):
                    self._json({})
                elif "count_tokens" in self.path:
                    self._json({"input_tokens": 10})
                else:
                    self._turn(body)

            def do_GET(self) -> None:
                self._json({})

            def do_HEAD(self) -> None:
                self._json({})

            def _json(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _turn(self, body: dict[str, Any]) -> None:
                blocks: list[Block] = [{"text": "ok"}]
                if body.get("tools"):
                    with api.arrived:
                        number = len(api.requests)
                        api.requests.append(body)
                        api.arrived.notify_all()
                    blocks = script(number, body)
                message = api.message(blocks, body.get("model", "m"))
                if not body.get("stream"):
                    self._json(message)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                for event in api.events(message):
                    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                    self.wfile.write(data.encode())
                    self.wfile.flush()
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self._made = 0
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def message(self, blocks: list[Block], model: str) -> dict[str, Any]:
        self._made += 1
        content: list[Block] = []
        for place, block in enumerate(blocks):
            if "text" in block:
                content.append({"type": "text", "text": block["text"]})
            else:
                use = f"toolu_{self._made:04d}_{place}"
                content.append(
                    {"type": "tool_use", "id": use, "name": block["tool"], "input": block["input"]}
                )
        ends = "tool_use" if any("tool" in block for block in blocks) else "end_turn"
        return {
            "id": f"msg_model_{self._made:04d}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": ends,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }

    @staticmethod
    def events(message: dict[str, Any]) -> list[dict[str, Any]]:
        start = {**message, "content": [], "stop_reason": None}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
        for index, block in enumerate(message["content"]):
            if block["type"] == "text":
                opening: Block = {"type": "text", "text": ""}
                delta = {"type": "text_delta", "text": block["text"]}
            else:
                opening = {**block, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events += [
                {"type": "content_block_start", "index": index, "content_block": opening},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            ]
        ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        return [
            *events,
            {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ]


def said(request: dict[str, Any]) -> str:
    """Everything the model was given in a request's messages, as text."""
    return json.dumps(request["messages"], ensure_ascii=False)
