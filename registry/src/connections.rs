//! Open connections, and since when the client of each has kept the server waiting.
//!
//! A connection waits for its client while no request is under way, while a request's body is
//! due, and while the client has not read a part of an answer that was handed over. So one rule
//! bounds every kind of slow client, whatever the protocol version: the connection is closed
//! once it has waited for the idle time. When connections or memory run out, the connection
//! that has waited longest is closed at once, starting with the peer that has the most.
//!
//! A [`Connection`] is shared by its task and its requests. An [`Exchange`] is
//! one request with its answer; it lives until the last byte of the answer has
//! been handed to the operating system, because each piece of a body holds it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::lock;
use crate::error::{ApiError, Code};
use crate::peer::Peer;

/// A client has the idle time for each step of a body, so this bounds a client that sends or
/// reads a byte now and then.
pub(crate) const STEP: usize = 16 << 10;
/// The smallest block that a transfer reads or writes when memory is short.
pub(crate) const SMALL_BLOCK: usize = 32 << 10;
/// A client whose transfer has stalled for less than this is only slow.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// Share of all connections that is closed at once to make room: one in this
/// many.
const BATCH: usize = 64;

/// All open connections.
pub(crate) struct Connections {
    limit: usize,
    open: Mutex<Open>,
    next: AtomicU64,
    memory: usize,
    held: AtomicUsize,
}

#[derive(Default)]
struct Open {
    all: HashMap<u64, Arc<Connection>>,
    /// How many of them were asked to close and will shortly.
    closing: usize,
}

/// One open connection.
pub(crate) struct Connection {
    id: u64,
    peer: Peer,
    all: Arc<Connections>,
    state: Mutex<State>,
    closing: AtomicBool,
    close: Notify,
}

struct State {
    /// Since when no request is under way; meaningless while one is.
    idle: Instant,
    exchanges: HashMap<u64, Progress>,
    next: u64,
}

#[derive(Default)]
struct Progress {
    turn: WaitingOn,
    /// Parts of the answer that were handed over and not taken yet.
    steps: usize,
    held: usize,
}

/// Whom an exchange is waiting for.
#[derive(Clone, Copy, Default)]
enum WaitingOn {
    #[default]
    Server,
    /// The client's, to send more of a body. [`crate::api`] ends it, with an
    /// answer that says so.
    Sends(Instant),
    /// The client's, to read what it was sent.
    Takes(Instant),
}

/// Keeps a connection in the table.
pub(crate) struct ConnectionGuard(Arc<Connection>);

/// A request and its answer.
pub(crate) struct Exchange {
    id: u64,
    connection: Arc<Connection>,
}

impl Connections {
    /// At most `limit` connections, whose answers and uploads hold `memory`
    /// bytes at most.
    pub(crate) fn new(limit: usize, memory: usize) -> Arc<Connections> {
        Arc::new(Connections {
            limit,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            memory,
            held: AtomicUsize::new(0),
        })
    }

    /// Admits a connection. None if the table is full and no connection can be
    /// closed to make room.
    pub(crate) fn admit(self: &Arc<Connections>, peer: Peer) -> Option<ConnectionGuard> {
        let full = {
            let open = lock(&self.open);
            open.all.len() - open.closing >= self.limit
        };
        if full && !self.evict_waiting() {
            return None;
        }
        let connection = Arc::new(Connection {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            peer,
            all: self.clone(),
            state: Mutex::new(State {
                idle: Instant::now(),
                exchanges: HashMap::new(),
                next: 0,
            }),
            closing: AtomicBool::new(false),
            close: Notify::new(),
        });
        lock(&self.open).all.insert(connection.id, connection.clone());
        Some(ConnectionGuard(connection))
    }

    /// Closes some connections that wait for their clients. False if none does.
    pub(crate) fn evict_waiting(&self) -> bool {
        let many = (self.limit / BATCH).max(1);
        let mut closed = false;
        for connection in self.longest_waiting(Connection::waits_since).into_iter().take(many) {
            self.close(&connection);
            closed = true;
        }
        closed
    }

    fn close(&self, connection: &Connection) {
        let mut open = lock(&self.open);
        if open.all.contains_key(&connection.id) && !connection.closing.swap(true, Ordering::Relaxed) {
            open.closing += 1;
            connection.close.notify_one();
        }
    }

    /// The connections for which `since` returns a time, in eviction order.
    fn longest_waiting(&self, since: impl Fn(&Connection) -> Option<Instant>) -> Vec<Arc<Connection>> {
        let open: Vec<_> = lock(&self.open)
            .all
            .values()
            .filter(|c| !c.is_closing())
            .cloned()
            .collect();
        let mut peers: HashMap<Peer, usize> = HashMap::new();
        for connection in &open {
            *peers.entry(connection.peer).or_default() += 1;
        }
        let mut waiting: Vec<_> = open
            .into_iter()
            .filter_map(|connection| {
                let share = peers.get(&connection.peer).copied().unwrap_or_default();
                Some(((Reverse(share), since(&connection)?), connection))
            })
            .collect();
        waiting.sort_unstable_by_key(|(key, _)| *key);
        waiting.into_iter().map(|(_, connection)| connection).collect()
    }

    /// Bytes that transfers hold now.
    pub(crate) fn memory_held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, room: usize) -> bool {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= room)
        });
        taken.is_ok()
    }

    /// Reserves memory, evicting stalled clients if needed.
    fn reserve_or_evict(&self, bytes: usize) -> bool {
        if self.take(bytes, self.memory) {
            return true;
        }
        let now = Instant::now();
        let stuck = |connection: &Connection| connection.holds_since().filter(|since| now - *since >= STALLED_AFTER);
        let mut freed = 0;
        for connection in self.longest_waiting(stuck) {
            if freed >= bytes {
                break;
            }
            freed += connection.held();
            self.close(&connection);
        }
        // Their own tasks release what they held, shortly.
        if freed >= bytes {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        freed >= bytes
    }
}

impl Connection {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Completes when this connection must close to make room.
    pub(crate) async fn asked_to_close(&self) {
        self.close.notified().await;
    }

    /// Since when the client has kept the server waiting, in an exchange or between two; none
    /// if the server waits for nothing.
    fn waits_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        if state.exchanges.is_empty() {
            return Some(state.idle);
        }
        let turns = state.exchanges.values().map(|exchange| match exchange.turn {
            WaitingOn::Server => None,
            WaitingOn::Sends(since) | WaitingOn::Takes(since) => Some(since),
        });
        turns.flatten().min()
    }

    /// The same for an exchange that holds memory.
    fn holds_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let turns = state.exchanges.values().map(|exchange| match exchange.turn {
            WaitingOn::Sends(since) | WaitingOn::Takes(since) if exchange.held > 0 => Some(since),
            _ => None,
        });
        turns.flatten().min()
    }

    fn held(&self) -> usize {
        lock(&self.state).exchanges.values().map(|exchange| exchange.held).sum()
    }

    /// When this connection has waited for `idle`; none while it waits for
    /// nothing, or for a body that [`crate::api`] gives up on by itself.
    pub(crate) fn due(&self, idle: Duration) -> Option<Instant> {
        let state = lock(&self.state);
        if state.exchanges.is_empty() {
            return Some(state.idle + idle);
        }
        let turns = state.exchanges.values().map(|exchange| match exchange.turn {
            WaitingOn::Takes(since) => Some(since + idle),
            WaitingOn::Server | WaitingOn::Sends(_) => None,
        });
        turns.flatten().min()
    }

    /// A request has arrived.
    pub(crate) fn exchange(self: &Arc<Connection>) -> Arc<Exchange> {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        state.exchanges.insert(id, Progress::default());
        Arc::new(Exchange {
            id,
            connection: self.clone(),
        })
    }
}

impl ConnectionGuard {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = lock(&self.0.all.open);
        open.all.remove(&self.0.id);
        if self.0.is_closing() {
            open.closing -= 1;
        }
    }
}

impl Exchange {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = lock(&self.connection.state).exchanges.get_mut(&self.id) {
            change(progress);
        }
    }

    /// The server has something to do before the client can.
    pub(crate) fn server(&self) {
        self.change(|progress| progress.turn = WaitingOn::Server);
    }

    /// The same, while the client may still have something to take.
    pub(crate) fn server_reads(&self) {
        self.change(|progress| {
            if progress.steps == 0 {
                progress.turn = WaitingOn::Server;
            }
        });
    }

    /// The client owes bytes of its body since `since`.
    pub(crate) fn client_sends(&self, since: Instant) {
        self.change(|progress| progress.turn = WaitingOn::Sends(since));
    }

    /// There is something for the client to read.
    pub(crate) fn client_takes(&self) {
        self.change(|progress| progress.turn = WaitingOn::Takes(Instant::now()));
    }

    /// A step was handed over; ends with [`Exchange::step_taken`].
    pub(crate) fn step_handed_over(&self) {
        self.change(|progress| {
            progress.steps += 1;
            progress.turn = WaitingOn::Takes(Instant::now());
        });
    }

    pub(crate) fn step_taken(&self) {
        self.change(|progress| {
            progress.steps = progress.steps.saturating_sub(1);
            progress.turn = WaitingOn::Takes(Instant::now());
        });
    }

    /// Reserves `bytes` of memory in total, until this exchange ends.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.held());
        if !self.connection.all.reserve_or_evict(more) {
            return Err(busy());
        }
        self.add(more);
        Ok(())
    }

    /// Reserves memory for a transfer of `blocks` blocks at a time; returns the size of a
    /// block, which is `wanted` unless memory is short.
    pub(crate) fn transfer(&self, blocks: usize, wanted: usize) -> Result<usize, ApiError> {
        let all = &self.connection.all;
        if all.take(blocks * wanted, all.memory / 2) {
            self.add(blocks * wanted);
            return Ok(wanted);
        }
        let small = wanted.min(SMALL_BLOCK);
        if !all.reserve_or_evict(blocks * small) {
            return Err(busy());
        }
        self.add(blocks * small);
        Ok(small)
    }

    fn held(&self) -> usize {
        let state = lock(&self.connection.state);
        state.exchanges.get(&self.id).map_or(0, |progress| progress.held)
    }

    fn add(&self, bytes: usize) {
        self.change(|progress| progress.held += bytes);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = lock(&self.connection.state);
        let progress = state.exchanges.remove(&self.id);
        state.idle = Instant::now();
        drop(state);
        let held = progress.map_or(0, |progress| progress.held);
        self.connection.all.held.fetch_sub(held, Ordering::Relaxed);
    }
}

fn busy() -> ApiError {
    ApiError::new(Code::TooManyRequests, "too many transfers at once").header(hyper::header::RETRY_AFTER, "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    fn closing(seats: &[ConnectionGuard]) -> Vec<bool> {
        seats.iter().map(|seat| seat.0.is_closing()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn eviction_takes_the_longest_waiting_connection_of_the_busiest_peer() {
        let all = Connections::new(4, 1000);
        let mut seats = Vec::new();
        for last in [1, 2, 2, 2] {
            seats.push(all.admit(peer(last)).unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // The longest of all is busy with a request, the next alone of its peer.
        let busy = seats[1].connection().exchange();
        let newcomer = all.admit(peer(3)).unwrap();
        assert_eq!(closing(&seats), [false, false, true, false]);
        drop(seats.remove(2));
        drop(newcomer);
        drop(busy);
        seats.push(all.admit(peer(3)).unwrap());
        let busy: Vec<_> = seats.iter().map(|seat| seat.connection().exchange()).collect();
        assert!(all.admit(peer(4)).is_none());
        // A client that reads nothing of its answer keeps the server waiting.
        busy[0].client_takes();
        assert!(all.admit(peer(4)).is_some());
        assert_eq!(closing(&seats), [true, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_released_and_reclaimed_from_stalled_clients() {
        let all = Connections::new(10, 1000);
        let seats: Vec<_> = (0..3).map(|n| all.admit(peer(n)).unwrap()).collect();
        let exchange = |n: usize| seats[n].connection().exchange();
        let stuck = exchange(0);
        stuck.reserve(900).unwrap();
        stuck.reserve(900).unwrap();
        stuck.client_takes();
        let other = exchange(1);
        other.reserve(100).unwrap();
        assert!(exchange(2).reserve(200).is_err(), "no client counts as stalled yet");
        tokio::time::advance(STALLED_AFTER).await;
        let third = exchange(2);
        third.reserve(200).unwrap();
        assert_eq!(closing(&seats), [true, false, false]);
        assert!(
            exchange(2).reserve(200).is_err(),
            "the same connection is not evicted twice"
        );
        drop((stuck, other, third));
        assert_eq!(all.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_deadline_follows_the_client() {
        let all = Connections::new(1, 1000);
        let idle = Duration::from_secs(30);
        let seat = all.admit(peer(1)).unwrap();
        let connection = seat.connection();
        let start = Instant::now();
        assert_eq!(connection.due(idle), Some(start + idle));
        let exchange = connection.exchange();
        assert_eq!(connection.due(idle), None);
        exchange.client_sends(start);
        assert_eq!(connection.due(idle), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        exchange.client_takes();
        assert_eq!(connection.due(idle), Some(Instant::now() + idle));
        let other = connection.exchange();
        tokio::time::advance(Duration::from_secs(10)).await;
        other.client_takes();
        assert_eq!(connection.due(idle), Some(start + Duration::from_secs(10) + idle));
        drop(exchange);
        drop(other);
        assert_eq!(connection.due(idle), Some(start + Duration::from_secs(20) + idle));
    }
}
