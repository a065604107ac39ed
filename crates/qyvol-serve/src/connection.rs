//! One connection: TLS, the version of HTTP that its client speaks, and how long it may
//! keep the server waiting.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::Server;
use crate::activity::{Activity, Due, Sent, Tasks};
use crate::exchange::{Exchange, Of};
use crate::framing::{Framed, Refused};
use crate::opening::Opened;
use crate::request::Caller;
use crate::socket::{Socket, Unfinished, drained, left};
use crate::stalled::Stalled;
use crate::tls::{HTTP2, peer};

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// How long a client may take for a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take for a request's head, or leave its connection idle.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what it is sent.
const STALL: Duration = Duration::from_secs(30);
/// How long a connection is kept after its client has closed it, or its sending side: what the
/// client sent before is read until then.
const LEAVE: Duration = Duration::from_secs(1);
/// How long a client may take to read 64 KiB of an HTTP/2 response while it reads others.
const SLOW: Duration = Duration::from_secs(300);
/// At shutdown, how long an open connection waits for one more request that may be on its way.
const LINGER: Duration = Duration::from_secs(1);
/// How long a connection that is idle has for its graceful close.
const CLOSE: Duration = Duration::from_secs(1);
/// Requests that are open at once on one connection of HTTP/2.
const STREAMS: u32 = 64;
/// Requests that a client may reset before they are begun. More of them end its connection:
/// they cost the client nothing.
const RESETS: usize = 20;
/// Bytes that one request of HTTP/2 may send before any of them is read, and that all of
/// one connection may.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);
/// Bytes of one response of HTTP/2 that wait for its client.
const SENDING: usize = 64 << 10;

/// A connection, apart from its stream.
struct Connected {
    caller: Caller,
    stream: Arc<TcpStream>,
    unfinished: Unfinished,
    sent: Sent,
}

impl Server {
    /// Serves requests until the client leaves, a timeout expires, or the server shuts down.
    pub(crate) async fn connection(self: Arc<Server>, stream: TcpStream, caller: Caller) {
        // Without it, small responses may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (unfinished, sent) = (Unfinished::default(), Sent::default());
        let stream = Arc::new(stream);
        let socket = Socket::new(Arc::clone(&stream), unfinished.clone(), sent.clone());
        let mut connected = Connected {
            caller,
            stream,
            unfinished,
            sent,
        };
        let stream = Stalled::new(socket, STALL);
        let Some(tls) = &self.tls else {
            let opens = Instant::now();
            let opened = tokio::select! {
                opened = Opened::read(stream) => opened,
                () = self.timeout(IDLE) => return,
            };
            if let Ok(opened) = opened {
                let is_http2 = opened.is_http2;
                self.serve(opened, is_http2, opens, &connected).await;
                self.close(&connected).await;
            }
            return;
        };
        let accepted = tokio::select! {
            accepted = TlsAcceptor::from(tls.current()).accept(stream) => accepted,
            () = self.timeout(HANDSHAKE) => return,
        };
        if let Ok(stream) = accepted {
            let (_, tls) = stream.get_ref();
            let is_http2 = tls.alpn_protocol() == Some(HTTP2);
            connected.caller.proved = peer(tls);
            self.serve(stream, is_http2, Instant::now(), &connected).await;
            self.close(&connected).await;
        }
    }

    /// Stops sending, and for a while reads what the client still sends. Otherwise the
    /// client's system would get a reset, and might drop a response
    /// that has not been read (RFC 9112, 9.6).
    async fn close(&self, connected: &Connected) {
        if connected.unfinished.is_under_way() {
            return;
        }
        tokio::select! {
            () = drained(&connected.stream) => {}
            () = sleep(LEAVE) => {}
            () = self.stop.begun() => {}
        }
    }

    /// Completes after this time, or shortly after shutdown has begun.
    async fn timeout(&self, time: Duration) {
        let ends = async {
            self.stop.begun().await;
            sleep(LINGER).await;
        };
        tokio::select! {
            () = sleep(time) => {}
            () = ends => {}
        }
    }

    /// Serves a connection that has been open for requests since `opens`.
    async fn serve<S>(self: &Arc<Server>, stream: S, is_http2: bool, opens: Instant, connected: &Connected)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = is_http2.then(|| Arc::new(Activity::new(IDLE, STALL, SLOW, connected.sent.clone())));
        let (server, caller) = (Arc::clone(self), connected.caller.clone());
        let of_requests = Of {
            activity: activity.clone(),
            unfinished: connected.unfinished.clone(),
        };
        let (refused, last) = (Refused::none(), Arc::new(AtomicU64::new(0)));
        let (of_framed, begun) = (refused.clone(), Arc::clone(&last));
        let service = service_fn(move |request| {
            // Here, so that it is counted even if its client has left by now.
            let exchange = Exchange::new(&server, &request, caller.peer, of_requests.clone());
            let (server, caller) = (Arc::clone(&server), caller.clone());
            let is_clear = !refused.has(last.fetch_add(1, Ordering::Relaxed) + 1);
            async move { Ok::<_, Infallible>(server.response(request, caller, exchange, is_clear).await) }
        });
        let Some(activity) = activity else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .max_buf_size(HEAD);
            let stream = TokioIo::new(Framed::new(stream, of_framed));
            let late = first_head_is_late(opens, begun);
            return self
                .drive(builder.serve_connection(stream, service), connected, None, late)
                .await;
        };
        let mut builder = http2::Builder::new(Tasks(Arc::clone(&activity)));
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_send_buf_size(SENDING);
        let stream = TokioIo::new(stream);
        let connection = builder.serve_connection(stream, service);
        self.drive(connection, connected, Some(&activity), pending()).await;
    }

    /// Drives a connection to its end, at most until its first request is `late`. HTTP/1
    /// handles idle clients by itself.
    async fn drive(
        &self,
        connection: impl GracefulConnection,
        connected: &Connected,
        activity: Option<&Activity>,
        late: impl Future<Output = ()>,
    ) {
        let (mut connection, mut late) = (pin!(connection), pin!(late));
        let mut ends = pin!(async {
            self.stop.begun().await;
            sleep(LINGER).await;
        });
        // While a guest leaves a request's body unread, hyper does not read, so it doesn't
        // notice that the client has left.
        let mut leaves = pin!(async {
            left(&connected.stream).await;
            sleep(LEAVE).await;
        });
        let mut look = pin!(sleep(IDLE));
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    // Its errors are the client's, which left or doesn't speak HTTP, or those
                    // of a response that was cut off.
                    if ended.is_ok() {
                        connected.unfinished.end();
                    }
                    return;
                }
                () = leaves.as_mut() => return,
                () = late.as_mut() => return,
                () = ends.as_mut(), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = look.as_mut(), if activity.is_some() => {
                    let now = Instant::now();
                    match activity.map(|activity| activity.due(now)) {
                        Some(Due::Stalled) => return,
                        Some(Due::Idle(since)) if since + CLOSE <= now && is_closing => return,
                        Some(Due::Idle(_)) => {
                            is_closing = true;
                            connection.as_mut().graceful_shutdown();
                            look.as_mut().reset(now + CLOSE);
                        }
                        Some(Due::At(time)) => look.as_mut().reset(time),
                        None => {}
                    }
                }
            }
        }
    }
}

/// Ends if no request has begun by the time that the head of the first must be complete.
/// hyper's timer starts when it gets the connection, and part of the wait may have been before.
async fn first_head_is_late(opens: Instant, requests: Arc<AtomicU64>) {
    sleep_until(opens + IDLE).await;
    if requests.load(Ordering::Relaxed) > 0 {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    // [SERVE-007]
    #[tokio::test(start_paused = true)]
    async fn time_for_the_first_head_starts_when_the_connection_opens() {
        for (requests, is_late) in [(0, true), (1, false)] {
            let opens = Instant::now();
            advance(IDLE - Duration::from_secs(1)).await;
            let late = first_head_is_late(opens, Arc::new(AtomicU64::new(requests)));
            // The test's clock advances while nothing else happens.
            assert_eq!(timeout(Duration::from_secs(2), late).await.is_ok(), is_late);
        }
    }
}
