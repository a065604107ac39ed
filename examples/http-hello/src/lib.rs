//! Answers requests over HTTP: greets whoever is named in the path, and sends back what
//! is posted.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

/// Bytes that are moved at once.
const PIECE: u64 = 64 * 1024;

struct HttpHello;

wasip2::http::proxy::export!(HttpHello);

impl Guest for HttpHello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, _) = path.split_once('?').unwrap_or((&path, ""));
        match (request.method(), path) {
            (Method::Get | Method::Head, "/") => greet(out, "world"),
            (Method::Get | Method::Head, path) if path.starts_with("/hello/") => {
                greet(out, path.trim_start_matches("/hello/"));
            }
            (Method::Post, "/echo") => echo(&request, out),
            _ => text(out, 404, "there is nothing here\n"),
        }
    }
}

fn greet(out: ResponseOutparam, name: &str) {
    let greeting = std::env::var("GREETING").unwrap_or_default();
    text(out, 200, &format!("{greeting}, {name}!\n"));
}

/// Answers with a text.
fn text(out: ResponseOutparam, status: u16, text: &str) {
    let length = text.len().to_string();
    let body = begin(out, status, &[("content-type", "text/plain; charset=utf-8"), ("content-length", &length)]);
    let Ok(stream) = body.write() else { return };
    // The client may have left.
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Sends the request's body back, piece by piece as it comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let Ok(incoming) = request.consume() else { return };
    let Ok(input) = incoming.stream() else { return };
    let body = begin(out, 200, &[("content-type", "application/octet-stream")]);
    let Ok(output) = body.write() else { return };
    loop {
        match output.blocking_splice(&input, PIECE) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            // What was sent so far is not all: the body stays unfinished.
            Err(StreamError::LastOperationFailed(_)) => return,
        }
    }
    drop(output);
    let _ = OutgoingBody::finish(body, None);
}

/// Sends the head of a response.
fn begin(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> OutgoingBody {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("these headers are allowed");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("nobody has taken the body");
    ResponseOutparam::set(out, Ok(response));
    body
}
