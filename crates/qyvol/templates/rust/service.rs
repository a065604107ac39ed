//! Answers requests over HTTP: greets whoever is named in the path.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Service;

wasip2::http::proxy::export!(Service);

impl Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (status, text) = answer(&path);
        send(out, status, &text);
    }
}

/// The status and the text for a path.
fn answer(path: &str) -> (u16, String) {
    let (path, _query) = path.split_once('?').unwrap_or((path, ""));
    match path.strip_prefix('/') {
        Some("") => (200, "Hello, world!\n".to_string()),
        Some(name) if !name.contains('/') => (200, format!("Hello, {name}!\n")),
        _ => (404, "There is nothing here.\n".to_string()),
    }
}

/// Sends a response.
fn send(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    headers
        .append("content-type", b"text/plain; charset=utf-8")
        .expect("this header is allowed");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("nobody has taken the body");
    ResponseOutparam::set(out, Ok(response));
    let Ok(stream) = body.write() else { return };
    // It takes 4,096 bytes at once. The client may have left.
    for piece in text.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name_and_otherwise_the_world() {
        assert_eq!(answer("/Ana?x=1"), (200, "Hello, Ana!\n".to_string()));
        assert_eq!(answer("/").1, "Hello, world!\n");
        assert_eq!(answer("/a/b").0, 404);
    }
}
