//! Sends requests by `wasi:http` 0.2, and says of each what came of it.
//!
//! `http URL...` prints, for each, the status and the body, or the error's code.
//! `METHOD=POST` before a URL is its method, and sends a body. After `KEEP` bodies are
//! left unread, and their connections open. After `FOLLOW` a redirect is followed, once.

use std::process::ExitCode;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

/// Bytes of an answer that are shown.
const MAX_SHOWN: usize = 256;
/// How long each step may take, in nanoseconds.
const TIMEOUT: u64 = 5_000_000_000;

fn main() -> ExitCode {
    let mut method = Method::Get;
    let mut kept = None;
    let mut follows = false;
    for argument in std::env::args().skip(1) {
        match argument.strip_prefix("METHOD=") {
            Some("POST") => method = Method::Post,
            Some("CONNECT") => method = Method::Connect,
            Some(_) => method = Method::Get,
            None if argument == "KEEP" => kept = Some(Vec::new()),
            None if argument == "FOLLOW" => follows = true,
            None => match fetch(&method, &argument, kept.as_mut(), follows) {
                Ok(what) => println!("{argument}: {what}"),
                Err(why) => println!("{argument}: {}", name(&why)),
            },
        }
    }
    ExitCode::SUCCESS
}

fn fetch(
    method: &Method,
    url: &str,
    kept: Option<&mut Vec<IncomingResponse>>,
    follows: bool,
) -> Result<String, ErrorCode> {
    let response = send(method, url)?;
    let status = response.status();
    if follows {
        if let Some(location) = response.headers().get("location").first() {
            let there = fetch(method, &String::from_utf8_lossy(location), None, false);
            return Ok(format!("{status} {}", there.unwrap_or_else(|why| name(&why))));
        }
    }
    match kept {
        Some(kept) => {
            kept.push(response);
            Ok(status.to_string())
        }
        None => Ok(format!("{status} {}", read(&response)?)),
    }
}

/// A code without the name of its type.
fn name(code: &ErrorCode) -> String {
    let text = format!("{code:?}");
    text.trim_start_matches("ErrorCode::").to_string()
}

fn send(method: &Method, url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => return Err(ErrorCode::HttpRequestUriInvalid),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_method(method).map_err(invalid)?;
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let body = request.body().map_err(invalid)?;
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(Some(TIMEOUT));
    let _ = options.set_first_byte_timeout(Some(TIMEOUT));
    let _ = options.set_between_bytes_timeout(Some(TIMEOUT));
    let answer = handle(request, Some(options))?;
    if matches!(method, Method::Post) {
        let stream = body.write().map_err(invalid)?;
        let _ = stream.blocking_write_and_flush(b"what was posted");
    }
    // What could not be sent is told by the answer.
    let _ = OutgoingBody::finish(body, None);
    loop {
        match answer.get() {
            Some(Ok(response)) => return response,
            Some(Err(())) => return Err(ErrorCode::HttpProtocolError),
            None => answer.subscribe().block(),
        }
    }
}

fn read(response: &IncomingResponse) -> Result<String, ErrorCode> {
    let body = response.consume().map_err(|()| ErrorCode::HttpProtocolError)?;
    let stream = body.stream().map_err(|()| ErrorCode::HttpProtocolError)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(MAX_SHOWN as u64) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let code = wasip2::http::types::http_error_code(&error);
                return Err(code.unwrap_or(ErrorCode::HttpProtocolError));
            }
        }
    }
    bytes.truncate(MAX_SHOWN);
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}
