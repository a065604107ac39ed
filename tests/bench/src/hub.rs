//! The hub under load, compared with Debian's docker-registry under the same load.

use std::fs;
use std::thread;
use std::time::Duration;

use qyvol_types::{Algorithm, Hasher};

use super::assets::{Random, noise};
use super::http::{Connection, request};
use super::load::{Image, LoadResult, Work, percentile, run, with_digest};
use super::measure::Run;
use super::rows::{at_most, reached, utf8};
use super::servers::{Kind, Server};
use super::{Bench, Row};

const CLIENTS: usize = 32;
/// Images that can be pulled, in this many repositories.
const STOCK: u64 = 256;
const REPOSITORIES: u64 = 16;
/// Of one load, unless its work is done before.
const ROUND: Duration = Duration::from_secs(2);

pub(super) fn small(bench: &Bench) -> Result<Vec<Row>, String> {
    let servers = [Server::start(bench, Kind::Hub)?, Server::start(bench, Kind::Docker)?];
    let image = |kind: &str, index: u64, blobs: usize, seed: u64| {
        let repository = format!("{kind}/r{}", index % REPOSITORIES);
        Image::new(&repository, &format!("t{index}"), blobs, seed)
    };
    let stock: Vec<Image> = (0..STOCK).map(|index| image("stock", index, 4, index)).collect();
    let stocking: Vec<Work<'_>> = stock.iter().map(Work::Push).collect();
    for server in &servers {
        run(&server.address, &stocking, CLIENTS, Duration::MAX)?;
    }
    let mut rows = Vec::new();
    let mut pushed = STOCK;
    for (what, pulls, pushes) in [
        ("pulls", 20_000, 0),
        ("pushes", 0, 2000),
        ("pulls and pushes at once", 6000, 1500),
    ] {
        let mut rounds = Vec::new();
        for _ in 0..bench.long_runs() {
            // What is pushed is new to both each time.
            let fresh: Vec<Image> = (pushed..pushed + pushes)
                .map(|index| image("fresh", index, 2, index))
                .collect();
            pushed += pushes;
            let work = mixed(&stock, pulls, &fresh);
            let [ours, peer] = servers
                .each_ref()
                .map(|server| run(&server.address, &work, CLIENTS, ROUND));
            rounds.push([ours?, peer?]);
        }
        rows.push(compared(what, rounds));
    }
    Ok(rows)
}

/// Pulls of existing images and pushes of new ones, evenly mixed.
fn mixed<'a>(stock: &'a [Image], pulls: usize, fresh: &'a [Image]) -> Vec<Work<'a>> {
    let mut order = Random(1);
    let mut work = Vec::new();
    let mut fresh = fresh.iter().peekable();
    let pushes = fresh.len();
    for index in 0..pulls.max(pushes) {
        if index < pulls {
            let at = usize::try_from(order.next() >> 32).unwrap_or(0) % stock.len();
            work.extend(stock.get(at).map(Work::Pull));
        }
        // As many of them as of the whole have been passed.
        let due = (index + 1) * pushes / pulls.max(pushes);
        while pushes - fresh.len() < due
            && let Some(image) = fresh.next()
        {
            work.push(Work::Push(image));
        }
    }
    work
}

fn compared(what: &str, rounds: Vec<[LoadResult; 2]>) -> Row {
    const LIMIT: f64 = 1.5;
    let rate = |done: &LoadResult| done.requests as f64 / done.took.as_secs_f64();
    let mut ratios: Vec<f64> = rounds.iter().map(|[ours, peer]| rate(ours) / rate(peer)).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(0.0);
    let [ours, peer] = [0, 1].map(|side| {
        let rounds = rounds.iter().filter_map(|round| round.get(side));
        let mut rates: Vec<f64> = rounds.clone().map(rate).collect();
        rates.sort_by(f64::total_cmp);
        let mut latencies: Vec<_> = rounds.flat_map(|done| done.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&latencies, percent).as_secs_f64() * 1e3);
        let rate = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
        format!("{rate:.0}/s (p50 {p50:.2} ms, p99 {p99:.2} ms)")
    });
    Row {
        what: format!("small requests, {CLIENTS} clients: {what}"),
        ours,
        peer: format!("{peer} docker-registry"),
        ratio: format!("{ratio:.1} ({:.1})", ratios.first().copied().unwrap_or(0.0)),
        to_reach: format!("at least {LIMIT}"),
        verdict: reached(ratio >= LIMIT),
    }
}

pub(super) fn uploads(bench: &Bench) -> Result<Vec<Row>, String> {
    const LIMIT: u64 = 256 << 20;
    const UPLOADS: usize = 16;
    const PIECES: u64 = 1024;
    const NEEDED: u64 = 18 << 30;
    if !bench.big {
        return Err("give --big: it writes 16 GiB".to_string());
    }
    fs::create_dir_all(&bench.scratch).map_err(|e| format!("making {}: {e}", bench.scratch.display()))?;
    let free = Run::new("df", &["--output=avail", "-B1", utf8(&bench.scratch)?]).check()?;
    let free: u64 = free
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0);
    if free < NEEDED {
        let [free, needed] = [free, NEEDED].map(|bytes| bytes >> 30);
        return Err(format!("{free} GiB of disk are free, it takes {needed}"));
    }
    let server = Server::start(bench, Kind::Hub)?;
    // The same content from all: what is known of it only its end tells.
    let mut piece = Vec::new();
    noise(&mut Random(0), &mut piece, 1 << 20);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..PIECES).for_each(|_| hasher.update(&piece));
    let digest = hasher.finish().to_string();
    let (server, piece, digest) = (&server, &piece, &digest);
    let sent: Result<Vec<()>, String> = thread::scope(|scope| {
        let started: Vec<_> = (0..UPLOADS)
            .map(|index| scope.spawn(move || upload(&server.address, index, piece, PIECES, digest)))
            .collect();
        started
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|_| Err("an upload panicked".to_string())))
            .collect()
    });
    sent?;
    let what = format!("hub, peak memory with {UPLOADS} uploads of 1 GiB at once");
    Ok(vec![at_most(&what, server.peak()?, LIMIT)])
}

/// Every other one as a stream that is ended by a request of its own.
fn upload(address: &str, index: usize, piece: &[u8], pieces: u64, digest: &str) -> Result<(), String> {
    let mut connection = Connection::open(address)?;
    let mut ask = |method: &str, path: &str, times: u64, good: u16| {
        let request = request(method, address, path, "Content-Type: application/octet-stream\r\n");
        let answer = connection.ask(&request, piece, times)?;
        match answer.status == good {
            true => Ok(answer.location),
            false => Err(format!("{method} {path}: {} where {good} is due", answer.status)),
        }
    };
    let place = ask("POST", &format!("/v2/upload/r{index}/blobs/uploads/"), 0, 202)?;
    if index.is_multiple_of(2) {
        ask("PUT", &with_digest(&place, digest), pieces, 201)?;
    } else {
        let place = ask("PATCH", &place, pieces, 202)?;
        ask("PUT", &with_digest(&place, digest), 0, 201)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_and_pushes_are_mixed_and_all_there() {
        let images: Vec<Image> = (0..10).map(|seed| Image::new("a", "b", 1, seed)).collect();
        for (pulls, pushes) in [(20, 10), (7, 3), (0, 10), (10, 0), (3, 7)] {
            let work = mixed(&images, pulls, &images[..pushes]);
            let count = |work: &[Work<'_>]| work.iter().filter(|w| matches!(w, Work::Push(_))).count();
            assert_eq!((work.len(), count(&work)), (pulls + pushes, pushes));
            let half = count(&work[..work.len() / 2]);
            assert!(half.abs_diff(pushes / 2) <= 1, "{half} of {pushes}");
        }
    }
}
