"""Answers requests over HTTP: greets whoever is named in the path, sends back what is
posted, and returns a query as JSON."""

import json
import os
from urllib.parse import parse_qsl

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Get,
    Method_Head,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

TEXT = "text/plain; charset=utf-8"
# Bytes that are moved at once.
PIECE = 64 * 1024
# Bytes that `blocking_write_and_flush` takes at most.
WRITE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path, _, query = (request.path_with_query() or "/").partition("?")
        match request.method():
            case Method_Get() | Method_Head() if path == "/":
                greet(response_out, "world")
            case Method_Get() | Method_Head() if path.startswith("/hello/"):
                greet(response_out, path.removeprefix("/hello/"))
            case Method_Get() | Method_Head() if path == "/json":
                send(response_out, 200, "application/json", json.dumps(dict(parse_qsl(query))))
            case Method_Post() if path == "/echo":
                echo(request, response_out)
            case _:
                send(response_out, 404, TEXT, "there is nothing here\n")


def greet(out: ResponseOutparam, name: str) -> None:
    greeting = os.environ.get("GREETING", "")
    send(out, 200, TEXT, f"{greeting}, {name}!\n")


def send(out: ResponseOutparam, status: int, kind: str, text: str) -> None:
    """Answers with a text."""
    data = text.encode()
    headers = {"content-type": kind, "content-length": str(len(data))}
    body = begin(out, status, headers)
    with body.write() as stream:
        for at in range(0, len(data), WRITE):
            stream.blocking_write_and_flush(data[at : at + WRITE])
    OutgoingBody.finish(body, None)


def echo(request: IncomingRequest, out: ResponseOutparam) -> None:
    """Sends the request's body back, piece by piece as it comes."""
    with request.consume() as incoming, incoming.stream() as source:
        body = begin(out, 200, {"content-type": "application/octet-stream"})
        with body.write() as stream:
            try:
                while True:
                    stream.blocking_splice(source, PIECE)
            except Err as error:
                # Otherwise what was sent is not all: the body stays unfinished.
                if not isinstance(error.value, StreamError_Closed):
                    raise
        OutgoingBody.finish(body, None)


def begin(out: ResponseOutparam, status: int, headers: dict[str, str]) -> OutgoingBody:
    """Sends the head of a response."""
    fields = Fields.from_list([(name, value.encode()) for name, value in headers.items()])
    response = OutgoingResponse(fields)
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    return body
