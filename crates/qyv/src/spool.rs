//! Messages and log lines that are written while requests are answered: by a thread of its own,
//! so that a slow disk, or a pipe that nobody reads, blocks no request. The queue is bounded,
//! by items and by bytes: clients and guests supply the texts.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Items that wait at once. Further ones are lost, and counted.
const QUEUE: usize = 8192;
/// Bytes of their texts.
const BYTES: usize = 1 << 20;
/// Items that are passed on at once.
const BATCH: usize = 256;
/// How long the end waits for queued items.
const GRACE: Duration = Duration::from_secs(1);

/// A queue, and the thread behind it. Clones share them.
pub struct Spool<T> {
    orders: Sender<Order<T>>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    /// What is queued, or being written.
    items: usize,
    bytes: usize,
    lost: u64,
}

impl<T> Clone for Spool<T> {
    fn clone(&self) -> Spool<T> {
        Spool {
            orders: self.orders.clone(),
            counts: Arc::clone(&self.counts),
        }
    }
}

enum Order<T> {
    /// With its bytes.
    Item(T, usize),
    End(Sender<()>),
}

impl<T: Send + 'static> Spool<T> {
    /// Starts the thread. `write` gets items in order, and how many were lost since its last
    /// call.
    pub fn start(name: &str, write: impl FnMut(Vec<T>, u64) + Send + 'static) -> io::Result<Spool<T>> {
        let (orders, received) = channel();
        let counts = Arc::new(Mutex::default());
        let counted = Arc::clone(&counts);
        let name = name.to_string();
        thread::Builder::new()
            .name(name)
            .spawn(move || work(&received, &counted, write))?;
        Ok(Spool { orders, counts })
    }

    /// Queues an item with this many bytes of text, if there is room for it.
    pub fn push(&self, item: T, bytes: usize) {
        let mut counts = lock(&self.counts);
        let sum = counts.bytes.saturating_add(bytes);
        // While the counts are locked, so that items are counted before they are received.
        if counts.items < QUEUE && sum <= BYTES && self.orders.send(Order::Item(item, bytes)).is_ok() {
            counts.items += 1;
            counts.bytes = sum;
        } else {
            counts.lost += 1;
        }
    }

    /// Waits until everything is written, but not for long. Later items are lost.
    pub fn finish(&self) {
        let (done, is_done) = channel();
        if self.orders.send(Order::End(done)).is_ok() {
            // The rest is not written: the process ends.
            let _ = is_done.recv_timeout(GRACE);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work<T>(received: &Receiver<Order<T>>, counts: &Mutex<Counts>, mut write: impl FnMut(Vec<T>, u64)) {
    let mut done = None;
    while done.is_none()
        && let Ok(first) = received.recv()
    {
        let (mut items, mut taken) = (Vec::new(), 0);
        let more = std::iter::from_fn(|| received.try_recv().ok());
        for order in std::iter::once(first).chain(more).take(BATCH) {
            match order {
                Order::Item(item, bytes) => {
                    items.push(item);
                    taken += bytes;
                }
                Order::End(acknowledge) => {
                    done = Some(acknowledge);
                    break;
                }
            }
        }
        let (number, lost) = (items.len(), std::mem::take(&mut lock(counts).lost));
        write(items, lost);
        // Only now: items that are being written count too.
        let mut counts = lock(counts);
        counts.items -= number;
        counts.bytes -= taken;
    }
    if let Some(done) = done {
        // Nobody may wait any more.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items that were written together, and how many were lost before them.
    type Batch = (Vec<usize>, u64);

    /// A spool whose writer waits for a signal before each batch, and passes the batch on.
    fn held() -> (Spool<usize>, Sender<()>, Receiver<Batch>) {
        let (written, read) = channel();
        let (go, gone) = channel::<()>();
        let spool = Spool::start("test", move |items: Vec<usize>, lost| {
            let _ = gone.recv();
            written.send((items, lost)).unwrap();
        });
        (spool.unwrap(), go, read)
    }

    #[test]
    fn items_come_in_order_and_none_waits_for_a_blocked_thread() {
        let (spool, go, read) = held();
        let pushed = 3 * QUEUE;
        (0..pushed).for_each(|n| spool.push(n, 1));
        drop(go);
        spool.finish();
        let (items, lost): (Vec<_>, Vec<_>) = read.try_iter().unzip();
        let items = items.concat();
        assert!(items.is_sorted() && items.len() >= QUEUE, "{}", items.len());
        assert_eq!(items.len() as u64 + lost.iter().sum::<u64>(), pushed as u64);
    }

    #[test]
    fn waiting_content_is_bounded_by_bytes() {
        let (spool, go, read) = held();
        // One that is too large takes no room.
        spool.push(0, BYTES + 1);
        (1..=20).for_each(|n| spool.push(n, BYTES / 4));
        go.send(()).unwrap();
        let (first, _) = read.recv().unwrap();
        drop(go);
        let mut taken = first.len();
        while taken < 4 {
            taken += read.recv().unwrap().0.len();
        }
        assert_eq!(taken, 4);
        // Written items free their room.
        while lock(&spool.counts).bytes > 0 {
            thread::yield_now();
        }
        spool.push(21, BYTES);
        assert_eq!(read.recv().unwrap().0, [21]);
    }
}
