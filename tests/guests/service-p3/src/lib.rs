//! The suite's service again, for WASI 0.3: the same behaviours at the same paths.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::wit_bindgen::{self, FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Service;

wasip3::http::service::export!(Service);

impl Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Ok(match path {
            "/hello" => text("hello\n"),
            "/count" => text(&format!("{}\n", COUNT.fetch_add(1, Ordering::Relaxed) + 1)),
            "/echo" => echo(request),
            "/pass" => respond(Fields::new(), Some(body(request))),
            "/length" => text(&length(request).await),
            "/head" => text(&head(&request)),
            "/environment" => text(&environment()),
            "/read" => text(&format!("{:?}\n", std::fs::read_to_string(query))),
            "/write" => text(&format!("{:?}\n", std::fs::write(query, "written").map_err(|e| e.kind()))),
            "/print" => {
                println!("to stdout");
                eprintln!("to stderr");
                text("printed\n")
            }
            "/fetch" => text(&fetch(query).await),
            "/upload" => upload(query).await,
            "/grow" => text(&format!("{}\n", vec![1u8; query.parse().unwrap()].len())),
            "/trap" => panic!("as asked"),
            "/trap-late" => {
                let (mut output, data) = wit_stream::new();
                wit_bindgen::spawn_local(async move {
                    write(&mut output, b"the first half".to_vec()).await;
                    panic!("as asked");
                });
                respond(Fields::new(), Some(data))
            }
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/sleep" => {
                wait_for(3_600_000_000_000).await;
                text("slept\n")
            }
            // It has answered, and goes on.
            "/sleep-late" => {
                wit_bindgen::spawn_local(wait_for(3_600_000_000_000));
                text("answered\n")
            }
            "/informational" => {
                let response = respond(Fields::new(), None);
                response.set_status_code(103).unwrap();
                response
            }
            "/decline" => return Err(ErrorCode::ConfigurationError),
            "/exit" => std::process::exit(3),
            _ => text("what?\n"),
        })
    }
}

/// A response with a body and no trailers.
fn respond(fields: Fields, data: Option<StreamReader<u8>>) -> Response {
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    drop(trailers);
    Response::new(fields, data, no_trailers).0
}

fn text(text: &str) -> Response {
    let fields = Fields::new();
    fields.append("content-length", text.len().to_string().as_bytes()).unwrap();
    let (mut output, data) = wit_stream::new();
    let text = text.as_bytes().to_vec();
    wit_bindgen::spawn_local(async move { write(&mut output, text).await });
    respond(fields, Some(data))
}

/// The client may have left.
async fn write(output: &mut StreamWriter<u8>, bytes: Vec<u8>) {
    let _ = output.write_all(bytes).await;
}

/// The body of a request, whose end is told by the stream alone.
fn body(request: Request) -> StreamReader<u8> {
    consume(request).0
}

fn consume(request: Request) -> (StreamReader<u8>, FutureReader<Result<Option<Fields>, ErrorCode>>) {
    let (_, read) = wit_future::new(|| Ok(()));
    Request::consume_body(request, read)
}

/// Sends each piece back before it waits for the next.
fn echo(request: Request) -> Response {
    let mut input = body(request);
    let (mut output, data) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        loop {
            let (result, piece) = input.read(Vec::with_capacity(4096)).await;
            write(&mut output, piece).await;
            if matches!(result, StreamResult::Dropped) {
                break;
            }
        }
    });
    respond(Fields::new(), Some(data))
}

/// Reads the whole body, and says how long it was or that this failed.
async fn length(request: Request) -> String {
    let (input, ended) = consume(request);
    let length = input.collect().await.len();
    match ended.await {
        Ok(_) => format!("{length}\n"),
        Err(_) => "failed\n".to_string(),
    }
}

fn head(request: &Request) -> String {
    let mut text = format!(
        "{:?} {:?} {:?} {:?}\n",
        request.get_method(),
        request.get_scheme(),
        request.get_authority(),
        request.get_path_with_query()
    );
    for (name, value) in request.get_headers().copy_all() {
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
async fn upload(authority: &str) -> Response {
    let (mut output, data) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        write(&mut output, b"the first half".to_vec()).await;
        wait_for(3_600_000_000_000).await;
    });
    let sent = client::send(outgoing(authority, Some(data))).await;
    text(&format!("{}\n", sent.is_ok()))
}

/// Sends a request to an authority, and says what became of it.
async fn fetch(authority: &str) -> String {
    match client::send(outgoing(authority, None)).await {
        Ok(response) => format!("{}\n", response.get_status_code()),
        Err(code) => format!("{code:?}\n"),
    }
}

fn outgoing(authority: &str, data: Option<StreamReader<u8>>) -> Request {
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    drop(trailers);
    let method = if data.is_some() { Method::Post } else { Method::Get };
    let (request, _) = Request::new(Fields::new(), data, no_trailers, None);
    request.set_method(&method).unwrap();
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    request
}
