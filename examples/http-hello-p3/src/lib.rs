//! Answers requests over HTTP with the asynchronous calls of WASI 0.3: greets whoever is
//! named in the path, sends back what is posted, and counts a clock's ticks as they come.

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{self, StreamReader};
use wasip3::{wit_future, wit_stream};

const SECOND: u64 = 1_000_000_000;
/// Ticks that one request may ask for.
const TICKS: u64 = 10;

struct HttpHello;

wasip3::http::service::export!(HttpHello);

impl Guest for HttpHello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, _) = target.split_once('?').unwrap_or((&target, ""));
        let is_read = matches!(request.get_method(), Method::Get | Method::Head);
        let is_post = matches!(request.get_method(), Method::Post);
        Ok(match path {
            "/" if is_read => greet("world"),
            "/echo" if is_post => echo(request),
            path if is_read => match (path.strip_prefix("/hello/"), path.strip_prefix("/ticks/")) {
                (Some(name), _) => greet(name),
                (_, Some(number)) => ticks(number.parse().unwrap_or(TICKS).min(TICKS)),
                _ => text(404, "there is nothing here\n".to_string()),
            },
            _ => text(404, "there is nothing here\n".to_string()),
        })
    }
}

fn greet(name: &str) -> Response {
    let greeting = std::env::var("GREETING").unwrap_or_default();
    text(200, format!("{greeting}, {name}!\n"))
}

/// Answers with a text.
fn text(status: u16, text: String) -> Response {
    let (mut output, data) = wit_stream::new();
    let length = text.len().to_string();
    wit_bindgen::spawn_local(async move {
        // What is left over had no reader any more: the client has left.
        let _unread = output.write_all(text.into_bytes()).await;
    });
    let fields = [("content-type", "text/plain; charset=utf-8"), ("content-length", length.as_str())];
    respond(status, &fields, data)
}

/// Sends the request's body back: the host moves the bytes, and this task has ended.
fn echo(request: Request) -> Response {
    let (_, read) = wit_future::new(|| Ok(()));
    let (data, _) = Request::consume_body(request, read);
    respond(200, &[("content-type", "application/octet-stream")], data)
}

/// Sends a line each second. While it waits it occupies no thread.
fn ticks(number: u64) -> Response {
    let (mut output, data) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        for tick in 1..=number {
            wait_for(SECOND).await;
            let unread = output.write_all(format!("tick {tick}\n").into_bytes()).await;
            if !unread.is_empty() {
                break;
            }
        }
    });
    respond(200, &[("content-type", "text/plain; charset=utf-8")], data)
}

fn respond(status: u16, fields: &[(&str, &str)], data: StreamReader<u8>) -> Response {
    let headers = Fields::new();
    for (name, value) in fields {
        // Both are this program's own.
        let _ = headers.append(name, value.as_bytes());
    }
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _) = Response::new(headers, Some(data), no_trailers);
    let _ = response.set_status_code(status);
    response
}
