//! Counters, in the text format of Prometheus.
//!
//! Labels are application names and words of closed sets, never text from a request, so a
//! client can't make the page grow.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use qyvol_runtime::{GuestTotals, ServiceError, WASMTIME_VERSION};

use crate::Server;
use crate::app::App;

/// Upper bounds of the histogram of durations, in microseconds: the usual ones of Prometheus,
/// and more for fast and slow services.
const BUCKETS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
];
/// Classes of status codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Why the server answered by itself.
const REFUSALS: [(StatusCode, &str); 5] = [
    (StatusCode::SERVICE_UNAVAILABLE, "busy"),
    (StatusCode::PAYLOAD_TOO_LARGE, "body"),
    (StatusCode::BAD_REQUEST, "host"),
    (StatusCode::NOT_IMPLEMENTED, "method"),
    (StatusCode::NOT_FOUND, "route"),
];
/// Results of reloads.
const RELOADS: [&str; 2] = ["replaced", "failed"];
/// How guests end.
const ENDS: [&str; 15] = [
    "returned",
    "trap",
    "memory",
    "output",
    "fuel",
    "stack",
    "handles",
    "call-data",
    "time",
    "cpu",
    "exit",
    "no-response",
    "declined",
    "host",
    "abandoned",
];

/// How a guest ended; `None` if nobody waited for its response any more.
fn end_of(ended: Option<&Result<(), ServiceError>>) -> &'static str {
    match ended {
        Some(Ok(())) => "returned",
        Some(Err(ServiceError::Trap(_))) => "trap",
        Some(Err(ServiceError::Limit(limit, _))) => limit.name(),
        Some(Err(ServiceError::Time(_))) => "time",
        Some(Err(ServiceError::CpuTime(_))) => "cpu",
        Some(Err(ServiceError::Exit(_))) => "exit",
        Some(Err(ServiceError::NoResponse)) => "no-response",
        Some(Err(ServiceError::Declined(_))) => "declined",
        Some(Err(_)) => "host",
        None => "abandoned",
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A number that goes up and down.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counters of one application.
#[derive(Default)]
pub(crate) struct SiteMetrics {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    sent: AtomicU64,
    refusals: [AtomicU64; REFUSALS.len()],
    ends: [AtomicU64; ENDS.len()],
    reloads: [AtomicU64; RELOADS.len()],
    pub(crate) open: Gauge,
    pub(crate) waiting: Gauge,
}

/// The counters of the server.
#[derive(Default)]
pub(crate) struct ServerMetrics {
    pub(crate) connections: Gauge,
    pub(crate) accepted: AtomicU64,
    /// The counters of requests that no application answers.
    pub(crate) unrouted: SiteMetrics,
}

impl SiteMetrics {
    pub(crate) fn answered(&self, status: u16, sent: u64, took: Duration) {
        if let Some(class) = self.classes.get(usize::from(status / 100).saturating_sub(1)) {
            add(class, 1);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(BUCKETS.partition_point(|bound| *bound < micros)) {
            add(bucket, 1);
        }
        add(&self.micros, micros);
        add(&self.sent, sent);
    }

    pub(crate) fn refused(&self, status: StatusCode) {
        let place = REFUSALS.iter().position(|(known, _)| *known == status);
        if let Some(counter) = place.and_then(|place| self.refusals.get(place)) {
            add(counter, 1);
        }
    }

    pub(crate) fn reloaded(&self, is_replaced: bool) {
        let [replaced, failed] = &self.reloads;
        add(if is_replaced { replaced } else { failed }, 1);
    }

    pub(crate) fn ended(&self, ended: Option<&Result<(), ServiceError>>) {
        let end = end_of(ended);
        let place = ENDS.iter().position(|known| *known == end);
        if let Some(counter) = place.and_then(|place| self.ends.get(place)) {
            add(counter, 1);
        }
    }
}

impl ServerMetrics {
    pub(crate) fn accepted(&self) {
        add(&self.accepted, 1);
        self.connections.up();
    }
}

/// One page of them.
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(
            self.text,
            "# HELP qyvol_serve_{name} {help}\n# TYPE qyvol_serve_{name} {kind}"
        )
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) -> fmt::Result {
        write!(self.text, "qyvol_serve_{name}")?;
        for (place, (label, value)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            write!(self.text, "{open}{label}=\"{}\"", escaped(value))?;
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{close} {value}")
    }

    /// One counter for each word of a closed set, for each application.
    fn words<const N: usize>(
        &mut self,
        name: &str,
        of: &[Counted<'_>],
        label: &str,
        words: [&str; N],
        counters: impl Fn(&SiteMetrics) -> &[AtomicU64; N],
    ) -> fmt::Result {
        for Counted { app, metrics, .. } in of {
            for (word, counter) in words.into_iter().zip(counters(metrics)) {
                self.sample(name, &[("app", app), (label, word)], read(counter))?;
            }
        }
        Ok(())
    }

    /// One number for each application.
    fn numbers<T: fmt::Display>(
        &mut self,
        name: &str,
        of: &[Counted<'_>],
        number: impl Fn(&Counted<'_>) -> T,
    ) -> fmt::Result {
        of.iter()
            .try_for_each(|counted| self.sample(name, &[("app", counted.app)], number(counted)))
    }
}

/// What is counted: an application, or requests that none answers.
struct Counted<'s> {
    /// Empty for the latter, which is the same as no label.
    app: &'s str,
    metrics: &'s SiteMetrics,
    guests: usize,
    taken: GuestTotals,
    /// The service that answers now.
    current: Option<Arc<App>>,
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All counters of a server.
pub(crate) fn page(server: &Server) -> String {
    let mut page = Page {
        text: String::with_capacity(8 << 10),
    };
    // Writing to a string can't fail.
    let _ok = write_page(&mut page, server);
    page.text
}

fn write_page(page: &mut Page, server: &Server) -> fmt::Result {
    let sites = server.sites.all().iter();
    let mut of: Vec<Counted<'_>> = sites
        .map(|site| Counted {
            app: &site.name,
            metrics: &site.metrics,
            guests: site.guests(),
            taken: site.figures.totals(),
            current: Some(site.current()),
        })
        .collect();
    if !server.sites.answer_all() {
        of.push(Counted {
            app: "",
            metrics: &server.metrics.unrouted,
            guests: 0,
            taken: GuestTotals::default(),
            current: None,
        });
    }
    page.family(
        "requests_total",
        "counter",
        "Requests that were answered, by class of status; 4xx has those whose client left",
    )?;
    page.words("requests_total", &of, "class", CLASSES, |of| &of.classes)?;
    page.family(
        "request_seconds",
        "histogram",
        "From the head of a request to the end of its response",
    )?;
    of.iter().try_for_each(|of| durations(page, of))?;
    page.family("response_bytes_total", "counter", "Bytes of the bodies of responses")?;
    page.numbers("response_bytes_total", &of, |of| read(&of.metrics.sent))?;
    page.family("requests_open", "gauge", "Requests that are being answered")?;
    page.numbers("requests_open", &of, |of| read(&of.metrics.open.0))?;
    page.family("requests_waiting", "gauge", "Requests that wait for their turn")?;
    page.numbers("requests_waiting", &of, |of| read(&of.metrics.waiting.0))?;
    page.family(
        "refused_total",
        "counter",
        "Requests that no guest was asked to answer, by reason",
    )?;
    let reasons = REFUSALS.map(|(_, word)| word);
    page.words("refused_total", &of, "reason", reasons, |of| &of.refusals)?;
    page.family("guests", "gauge", "Guests that exist")?;
    page.numbers("guests", &of, |of| of.guests)?;
    page.family("guests_ended_total", "counter", "Guests that have ended, by reason")?;
    page.words("guests_ended_total", &of, "reason", ENDS, |of| &of.ends)?;
    taken(page, &of)?;
    page.family(
        "reloads_total",
        "counter",
        "Attempts to replace what answers, by result",
    )?;
    page.words("reloads_total", &of, "result", RELOADS, |of| &of.reloads)?;
    page.family(
        "load_seconds",
        "gauge",
        "How long each step took until what answers now could answer",
    )?;
    for Counted { app, current, .. } in &of {
        for (step, took) in current.iter().flat_map(|current| &current.steps) {
            page.sample("load_seconds", &[("app", app), ("step", step)], took.as_secs_f64())?;
        }
    }
    page.family("connections", "gauge", "Connections that are open")?;
    page.sample("connections", &[], read(&server.metrics.connections.0))?;
    page.family("connections_total", "counter", "Connections that were accepted")?;
    page.sample("connections_total", &[], read(&server.metrics.accepted))?;
    page.family("build_info", "gauge", "What answers")?;
    let build = [("version", env!("CARGO_PKG_VERSION")), ("wasmtime", WASMTIME_VERSION)];
    page.sample("build_info", &build, 1)
}

/// What guests have used.
fn taken(page: &mut Page, of: &[Counted<'_>]) -> fmt::Result {
    page.family("instances_total", "counter", "Instances that were made")?;
    page.numbers("instances_total", of, |of| of.taken.made)?;
    page.family(
        "instances_reused_total",
        "counter",
        "Requests that were given an instance which had answered others",
    )?;
    page.numbers("instances_reused_total", of, |of| of.taken.reused)?;
    page.family(
        "instantiate_seconds_total",
        "counter",
        "How long instances took to be made",
    )?;
    page.numbers("instantiate_seconds_total", of, |of| {
        of.taken.instantiating.as_secs_f64()
    })?;
    page.family(
        "guest_seconds_total",
        "counter",
        "How long guests have occupied a thread: their processor time, and what the system gave to others meanwhile",
    )?;
    page.numbers("guest_seconds_total", of, |of| of.taken.running.as_secs_f64())?;
    page.family(
        "guest_memory_peak_bytes",
        "gauge",
        "The most linear memory and tables that one guest has had",
    )?;
    page.numbers("guest_memory_peak_bytes", of, |of| of.taken.memory)?;
    page.family(
        "request_bytes_total",
        "counter",
        "Bytes of the bodies of requests that guests were given",
    )?;
    page.numbers("request_bytes_total", of, |of| of.taken.received)?;
    page.family("denied_total", "counter", "Calls of guests that were denied")?;
    page.numbers("denied_total", of, |of| of.taken.denied)
}

fn durations(page: &mut Page, Counted { app, metrics, .. }: &Counted<'_>) -> fmt::Result {
    let mut total = 0;
    for (place, bucket) in metrics.buckets.iter().enumerate() {
        total += read(bucket);
        let bound = match BUCKETS.get(place) {
            Some(bound) => Duration::from_micros(*bound).as_secs_f64().to_string(),
            None => "+Inf".to_string(),
        };
        page.sample("request_seconds_bucket", &[("app", app), ("le", &bound)], total)?;
    }
    let seconds = Duration::from_micros(read(&metrics.micros)).as_secs_f64();
    page.sample("request_seconds_sum", &[("app", app)], seconds)?;
    page.sample("request_seconds_count", &[("app", app)], total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_a_label_can_not_end_it() {
        let mut page = Page { text: String::new() };
        page.sample("x", &[("app", "a\"} 1\n\\"), ("le", "+Inf")], 1).unwrap();
        assert_eq!(page.text, "qyvol_serve_x{app=\"a\\\"} 1\\n\\\\\",le=\"+Inf\"} 1\n");
    }

    #[test]
    fn request_is_counted_once_by_class_and_duration() {
        let metrics = SiteMetrics::default();
        metrics.answered(204, 7, Duration::from_millis(3));
        metrics.answered(499, 0, Duration::from_secs(3600));
        metrics.answered(999, 0, Duration::ZERO);
        assert_eq!(metrics.classes.each_ref().map(read), [0, 1, 0, 1, 0]);
        assert_eq!(metrics.buckets.iter().map(read).sum::<u64>(), 3);
        assert_eq!(
            (read(&metrics.buckets[3]), read(&metrics.buckets[BUCKETS.len()])),
            (1, 1)
        );
        metrics.refused(StatusCode::SERVICE_UNAVAILABLE);
        metrics.ended(Some(&Err(ServiceError::Exit(1))));
        metrics.ended(None);
        assert_eq!(read(&metrics.refusals[0]), 1);
        assert_eq!(
            metrics.ends.each_ref().map(read),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
        );
    }
}
