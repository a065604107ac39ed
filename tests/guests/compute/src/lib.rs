//! Answers each request after it has computed for a while, for measurements: the path is
//! the number of rounds.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Compute;

wasip2::http::proxy::export!(Compute);

impl Guest for Compute {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let rounds: u64 = path.trim_start_matches('/').parse().unwrap_or(0);
        // No round can begin before the one in front of it has ended.
        let sum = (0..rounds).fold(rounds, |sum, round| (sum ^ round).wrapping_mul(0x0100_0000_01b3).rotate_left(5));
        let text = format!("{sum:016x}\n");
        let fields = Fields::new();
        let length = text.len().to_string();
        fields.append("content-length", length.as_bytes()).expect("this header is allowed");
        let response = OutgoingResponse::new(fields);
        let body = response.body().expect("nobody has taken the body");
        ResponseOutparam::set(out, Ok(response));
        let Ok(stream) = body.write() else { return };
        // The client may have left.
        let _ = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
