//! A server on a free port in a directory of its own, and a client of a few lines
//! that hides nothing of the protocol.
#![allow(clippy::disallowed_methods, reason = "a test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use qyvol_hub::{Config, GcReport, Hub};
use qyvol_types::{Algorithm, Digest, Hasher};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub struct Server {
    pub address: SocketAddr,
    pub directory: Arc<TempDir>,
    ahead: Arc<AtomicU64>,
    hub: Hub,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    pub fn new() -> Server {
        Server::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Server {
        Server::at(Arc::new(TempDir::new().unwrap()), change)
    }

    pub fn at(directory: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = ahead.clone();
        let mut config = Config::new(
            "127.0.0.1:0".parse().unwrap(),
            directory.path().join("data"),
            move || SystemTime::now() + Duration::from_secs(clock.load(Ordering::Relaxed)),
        );
        config.gc_interval = None;
        config.limits.shutdown = Duration::from_millis(200);
        change(&mut config);
        let hub = Hub::open(config).unwrap();
        let bound = runtime.block_on(hub.bind()).unwrap();
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(bound.serve(async {
            let _ = stopped.await;
        }));
        Server {
            address,
            directory,
            ahead,
            hub,
            stop: Some(stop),
            runtime: Some(runtime),
        }
    }

    /// Ends like a kill: nothing is finished or written any more. Returns the directory.
    pub fn kill(mut self) -> Arc<TempDir> {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        self.directory.clone()
    }

    /// Asks the server to stop; it may still be running.
    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn advance(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn collect(&self) -> GcReport {
        self.hub.collect_garbage().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut stream = self.connect();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        let states_length = headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding"));
        if !states_length && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refused may have closed the connection: its answer still counts.
        let _ = stream.write_all(body);
        Response::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    pub fn head(&self, path: &str) -> Response {
        self.send("HEAD", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, &[], b"")
    }

    pub fn put_manifest(&self, name: &str, target: &str, media_type: &str, body: &str) -> Response {
        let path = format!("/v2/{name}/manifests/{target}");
        self.send("PUT", &path, &[("Content-Type", media_type)], body.as_bytes())
    }

    /// Pushes a blob in one request.
    pub fn blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, &[], bytes).expect(201);
        digest
    }

    pub fn has_blob(&self, name: &str, digest: &Digest) -> bool {
        self.head(&format!("/v2/{name}/blobs/{digest}")).status == 200
    }

    /// Starts an upload and gives its location.
    pub fn start(&self, name: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        answer.expect(202).header("location").unwrap().to_string()
    }

    /// Pushes an image of one layer; gives the manifest's text.
    pub fn image(&self, name: &str, tag: &str, layer: &[u8]) -> String {
        let config = self.blob(name, format!("{{\"x\":{}}}", layer.len()).as_bytes());
        let layer = self.blob(name, layer);
        let text = image(&config, &[layer], "");
        self.put_manifest(name, tag, IMAGE, &text).expect(201);
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

/// The text of an image manifest; `more` goes after its layers.
pub fn image(config: &Digest, layers: &[Digest], more: &str) -> String {
    let layers: Vec<_> = layers
        .iter()
        .map(|l| format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{l}","size":3}}"#))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{}]{more}}}"#,
        layers.join(",")
    )
}

/// `,"subject":…` for [`image`].
pub fn subject(of: &str) -> String {
    format!(
        r#","subject":{{"mediaType":"{IMAGE}","digest":"{}","size":{}}}"#,
        Digest::of(of.as_bytes()),
        of.len()
    )
}

pub fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

pub fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn read(stream: &mut TcpStream) -> Response {
        let mut bytes = Vec::new();
        // A reset after the answer is still an answer.
        let _ = stream.read_to_end(&mut bytes);
        Response::parse(&bytes)
    }

    pub fn parse(bytes: &[u8]) -> Response {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let Some(end) = end else {
            return Response {
                status: 0,
                headers: Vec::new(),
                body: bytes.to_vec(),
            };
        };
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_string()))
            .collect();
        Response {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Checks the status and the code in the error document.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Response {
        let answer = self.expect(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}", answer.text());
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// As much of HTTP/2 (RFC 9113) as a client needs that sends requests and reads no answers.
pub mod http2 {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut out = length[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<_> = values
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frame(4, 0, 0, &payload)
    }

    /// Reads no data but answers pings, as a client that is alive does, until
    /// the server closes. False if it does not within a while.
    pub fn stays_until_closed(stream: &mut TcpStream) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_err() {
                return true;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).is_err() {
                return true;
            }
            if (head[3], head[4]) == (6, 0) && stream.write_all(&frame(6, 1, 0, &payload)).is_err() {
                return true;
            }
        }
        false
    }

    /// A GET on a stream of its own, whose number is odd.
    pub fn get(stream: u32, path: &str) -> Vec<u8> {
        // HPACK (RFC 7541): GET and http by index, the others as literals.
        let mut block = vec![0x82, 0x86];
        for (name, value) in [(0x01, "x"), (0x04, path)] {
            block.extend([name, u8::try_from(value.len()).unwrap()]);
            block.extend(value.as_bytes());
        }
        frame(1, 0x05, stream, &block)
    }
}
