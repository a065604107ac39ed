//! A service for the suite: one behaviour for each path.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

use bindings::qyvol::call::context;

/// Who has called.
mod bindings {
    wit_bindgen::generate!({
        inline: "package suite:service; world service { import qyvol:call/context@0.1.0; }",
        path: "../../../formats/wit/call.wit",
        generate_all,
    });
}

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Service;

wasip2::http::proxy::export!(Service);

impl Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/hello" => text(out, "hello\n"),
            "/count" => text(out, &format!("{}\n", COUNT.fetch_add(1, Ordering::Relaxed) + 1)),
            "/echo" => echo(&request, out),
            "/length" => text(out, &length(&request)),
            "/head" => text(out, &head(&request)),
            "/environment" => text(out, &environment()),
            "/read" => text(out, &format!("{:?}\n", std::fs::read_to_string(query))),
            "/write" => text(out, &format!("{:?}\n", std::fs::write(query, "written").map_err(|e| e.kind()))),
            "/print" => {
                println!("to stdout");
                eprintln!("to stderr");
                text(out, "printed\n");
            }
            "/fetch" => text(out, &fetch(query)),
            "/upload" => upload(query),
            "/grow" => text(out, &format!("{}\n", vec![1u8; query.parse().unwrap()].len())),
            "/keep" => {
                text(out, "kept\n");
                std::mem::forget(request);
            }
            "/hold" => {
                let held = std::fs::File::open(query).map(std::mem::forget);
                text(out, &format!("{:?}\n", held.map_err(|e| e.kind())));
            }
            "/who" => text(out, &format!("{:?}\n", context::actor())),
            "/trap" => panic!("as asked"),
            "/trap-late" => {
                let body = begin(out, Fields::new());
                let stream = body.write().unwrap();
                stream.blocking_write_and_flush(b"the first half").unwrap();
                panic!("as asked");
            }
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/sleep" => subscribe_duration(3_600_000_000_000).block(),
            "/nothing" => {}
            "/informational" => {
                let response = OutgoingResponse::new(Fields::new());
                response.set_status_code(103).unwrap();
                ResponseOutparam::set(out, Ok(response));
            }
            "/decline" => ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
            "/exit" => std::process::exit(3),
            _ => text(out, "what?\n"),
        }
    }
}

fn begin(out: ResponseOutparam, fields: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn text(out: ResponseOutparam, text: &str) {
    let fields = Fields::new();
    fields.append("content-length", text.len().to_string().as_bytes()).unwrap();
    let body = begin(out, fields);
    let stream = body.write().unwrap();
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Sends each piece back before it waits for the next.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let body = begin(out, Fields::new());
    let output = body.write().unwrap();
    // The client gets the head before it has sent anything.
    output.blocking_flush().unwrap();
    while let Ok(piece) = input.blocking_read(4096) {
        output.blocking_write_and_flush(&piece).unwrap();
    }
    drop(output);
    OutgoingBody::finish(body, None).unwrap();
}

/// Reads the whole body, and says how long it was or why that failed.
fn length(request: &IncomingRequest) -> String {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let mut length = 0;
    loop {
        match input.blocking_read(65536) {
            Ok(piece) => length += piece.len(),
            Err(StreamError::Closed) => return format!("{length}\n"),
            Err(StreamError::LastOperationFailed(_)) => return "failed\n".to_string(),
        }
    }
}

fn head(request: &IncomingRequest) -> String {
    let mut text = format!(
        "{:?} {:?} {:?} {:?}\n",
        request.method(),
        request.scheme(),
        request.authority(),
        request.path_with_query()
    );
    for (name, value) in request.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    text
}

fn environment() -> String {
    let mut text = format!("{:?}\n", std::env::args().collect::<Vec<_>>());
    for (name, value) in std::env::vars() {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

/// Begins to send a body to an authority, and never ends it.
fn upload(authority: &str) {
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).unwrap();
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    let body = request.body().unwrap();
    let _response = outgoing_handler::handle(request, None).unwrap();
    let output = body.write().unwrap();
    output.blocking_write_and_flush(b"the first half").unwrap();
    subscribe_duration(3_600_000_000_000).block();
}

/// Sends a request to an authority, and says what became of it.
fn fetch(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    let sent = outgoing_handler::handle(request, None).and_then(|response| {
        response.subscribe().block();
        response.get().unwrap().unwrap()
    });
    match sent {
        Ok(response) => format!("{}\n", response.status()),
        Err(code) => format!("{code:?}\n"),
    }
}
