"""A Lambda function URL: HTTP in, an event of payload format 2.0 for the handler, its response out.

    PORT=8080 python -m tests.fakes.function_url docs/receivers/lambda_function.py

As AWS does, it passes text as it is and everything else in base64, and responds 502 when the handler raises.
"""

import base64
import importlib.util
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

type LambdaHandler = Callable[[dict[str, Any], object], dict[str, Any]]

_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")


def load(file: Path) -> LambdaHandler:
    """The `lambda_handler` of a file, which is run once, as at a cold start."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: LambdaHandler = module.lambda_handler
    return handler


def make_event(method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The event for one request; header names are in lower case."""
    is_text = headers.get("content-type", "").startswith(_TEXT_TYPES)
    raw_path, _, query = path.partition("?")
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "http": {"method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "timeEpoch": int(time.time() * 1000),
        },
        "body": body.decode() if is_text else base64.b64encode(body).decode(),
        "isBase64Encoded": not is_text,
    }


def read_answer(answer: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what the handler gave back."""
    body = answer.get("body", "")
    raw = base64.b64decode(body) if answer.get("isBase64Encoded", False) else body.encode()
    return answer["statusCode"], answer.get("headers", {}), raw


def serve(handler: LambdaHandler, port: int) -> None:
    """Until the process is ended."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            # Whatever the handler raises, the function URL answers.
            try:
                event = json.loads(json.dumps(make_event("POST", self.path, headers, body)))
                status, answered, content = read_answer(handler(event, None))
            except Exception:  # noqa: BLE001
                traceback.print_exc()
                status, answered, content = 502, {}, b"Internal Server Error"
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            if status != 204:
                self.wfile.write(content)

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(load(Path(sys.argv[1])), int(os.environ["PORT"]))
