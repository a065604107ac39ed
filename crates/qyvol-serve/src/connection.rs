//! One connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Server;
use crate::request::Caller;
use crate::stalled::Stalled;

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// How long a client may take for a request's head, or leave its connection idle.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent.
const STALL: Duration = Duration::from_secs(30);
/// At the end, how long an open connection waits for one more request that may be on its
/// way.
const LINGER: Duration = Duration::from_secs(1);

impl Server {
    /// Serves requests until the client leaves, a timeout strikes, or the end has come.
    pub(crate) async fn connection(self: Arc<Server>, stream: TcpStream, caller: Caller) {
        // Without it, small responses may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let server = &self;
        let service = service_fn(async |request| {
            let server = Arc::clone(server);
            Ok::<_, Infallible>(server.response(request, caller).await)
        });
        let stream = TokioIo::new(Stalled::new(stream, STALL));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD);
        let mut connection = pin!(builder.serve_connection(stream, service));
        // Its errors are the client's: it left, or spoke something else.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = self.stop.begun() => {}
        }
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = sleep(LINGER) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
