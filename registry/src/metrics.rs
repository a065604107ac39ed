//! Counters, rendered as Prometheus text.
//!
//! Labels are from closed sets, never from a request's text, so a client can't
//! make the page grow.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::lock;

/// Upper bounds of the latency histogram, in microseconds.
const BUCKETS: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 10_000_000, 60_000_000,
];

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Metrics {
    pub(crate) fn request(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        *lock(&self.requests).entry((route, method, status)).or_default() += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn render(&self, uploads: usize, memory: usize) -> String {
        let mut out = String::with_capacity(4096);
        // Writing to a string can't fail.
        let _ok = self.write(&mut out, uploads, memory);
        out
    }

    fn write(&self, out: &mut String, uploads: usize, memory: usize) -> std::fmt::Result {
        writeln!(out, "# TYPE qyvol_hub_requests_total counter")?;
        for ((route, method, status), count) in lock(&self.requests).iter() {
            writeln!(
                out,
                "qyvol_hub_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            )?;
        }
        writeln!(out, "# TYPE qyvol_hub_request_seconds histogram")?;
        let mut total = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            total += bucket.load(Ordering::Relaxed);
            match BUCKETS.get(index) {
                Some(bound) => writeln!(
                    out,
                    "qyvol_hub_request_seconds_bucket{{le=\"{}\"}} {total}",
                    Duration::from_micros(*bound).as_secs_f64()
                )?,
                None => writeln!(out, "qyvol_hub_request_seconds_bucket{{le=\"+Inf\"}} {total}")?,
            }
        }
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(out, "qyvol_hub_request_seconds_sum {sum}")?;
        writeln!(out, "qyvol_hub_request_seconds_count {total}")?;
        for (name, kind, value) in [
            ("received_bytes_total", "counter", self.received.load(Ordering::Relaxed)),
            ("sent_bytes_total", "counter", self.sent.load(Ordering::Relaxed)),
            (
                "refused_connections_total",
                "counter",
                self.refused.load(Ordering::Relaxed),
            ),
            ("connections", "gauge", self.connections.load(Ordering::Relaxed)),
            ("open_uploads", "gauge", u64::try_from(uploads).unwrap_or(u64::MAX)),
            (
                "transfer_memory_bytes",
                "gauge",
                u64::try_from(memory).unwrap_or(u64::MAX),
            ),
        ] {
            writeln!(out, "# TYPE qyvol_hub_{name} {kind}\nqyvol_hub_{name} {value}")?;
        }
        Ok(())
    }
}
