"""Answers requests over HTTP: greets whoever is named in the path."""

from urllib.parse import unquote

from componentize_py_types import Ok
from greeting import greeting
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

# Bytes that `blocking_write_and_flush` takes at most.
WRITE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path, _, _ = (request.path_with_query() or "/").partition("?")
        name = unquote(path.removeprefix("/"))
        if "/" in name:
            send(response_out, 404, "There is nothing here.\n")
        else:
            send(response_out, 200, f"{greeting(name or 'world')}\n")


def send(out: ResponseOutparam, status: int, text: str) -> None:
    """Answers with a text."""
    data = text.encode()
    fields = Fields.from_list([("content-type", b"text/plain; charset=utf-8")])
    response = OutgoingResponse(fields)
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        for at in range(0, len(data), WRITE):
            stream.blocking_write_and_flush(data[at : at + WRITE])
    OutgoingBody.finish(body, None)
