//! Sends requests by `wasi:http` 0.3, and says of each what came of it, as the program for
//! 0.2 does: `http URL...` prints, for each, the status and the body, or the error's code.
//! After `FOLLOW` a redirect is followed, once.

use wasip3::cli::environment::get_arguments;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, RequestOptions, Response, Scheme};
use wasip3::wit_future;

/// Bytes of an answer that are shown.
const MAX_SHOWN: usize = 256;
/// How long each step may take, in nanoseconds.
const TIMEOUT: u64 = 5_000_000_000;

struct Program;

wasip3::cli::command::export!(Program);

impl wasip3::exports::cli::run::Guest for Program {
    async fn run() -> Result<(), ()> {
        let mut follows = false;
        for argument in get_arguments().into_iter().skip(1) {
            if argument == "FOLLOW" {
                follows = true;
                continue;
            }
            let what = fetch(&argument, follows).await.unwrap_or_else(name);
            println!("{argument}: {what}");
        }
        Ok(())
    }
}

async fn fetch(url: &str, follows: bool) -> Result<String, ErrorCode> {
    let response = send(url).await?;
    let status = response.get_status_code();
    let locations = response.get_headers().get("location");
    match locations.first() {
        Some(location) if follows => {
            let there = Box::pin(fetch(&String::from_utf8_lossy(location), false)).await;
            Ok(format!("{status} {}", there.unwrap_or_else(name)))
        }
        _ => Ok(format!("{status} {}", read(response).await?)),
    }
}

/// A code without the name of its type.
fn name(code: ErrorCode) -> String {
    let text = format!("{code:?}");
    text.trim_start_matches("ErrorCode::").to_string()
}

async fn send(url: &str) -> Result<Response, ErrorCode> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => return Err(ErrorCode::HttpRequestUriInvalid),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(Some(TIMEOUT));
    let _ = options.set_first_byte_timeout(Some(TIMEOUT));
    let _ = options.set_between_bytes_timeout(Some(TIMEOUT));
    // Dropped, it says that there are no trailers.
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, Some(options));
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    client::send(request).await
}

async fn read(response: Response) -> Result<String, ErrorCode> {
    let (_, done) = wit_future::new(|| Ok(()));
    let (stream, ended) = Response::consume_body(response, done);
    let mut bytes = stream.collect().await;
    ended.await?;
    bytes.truncate(MAX_SHOWN);
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}
