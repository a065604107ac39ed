//! What is written for people and logs while requests are answered: by a thread of its
//! own, so that a slow disk, or a pipe that nobody reads, keeps no request waiting.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Items that wait at once. Further ones are lost, and counted.
const QUEUE: usize = 8192;
/// Items that are passed on at once.
const BATCH: usize = 256;
/// How long the end waits for what is still to be written.
const GRACE: Duration = Duration::from_secs(1);

/// A queue, and the thread behind it. Clones share them.
pub struct Spool<T> {
    orders: SyncSender<Order<T>>,
    lost: Arc<AtomicU64>,
}

impl<T> Clone for Spool<T> {
    fn clone(&self) -> Spool<T> {
        Spool {
            orders: self.orders.clone(),
            lost: Arc::clone(&self.lost),
        }
    }
}

enum Order<T> {
    Item(T),
    End(SyncSender<()>),
}

impl<T: Send + 'static> Spool<T> {
    /// Starts the thread. `write` gets items in their order, and how many were lost since
    /// it was called last.
    pub fn start(name: &str, write: impl FnMut(Vec<T>, u64) + Send + 'static) -> io::Result<Spool<T>> {
        let (orders, received) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let name = name.to_string();
        thread::Builder::new()
            .name(name)
            .spawn(move || work(&received, &counted, write))?;
        Ok(Spool { orders, lost })
    }

    /// Passes an item on, if there is room for it.
    pub fn push(&self, item: T) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Item(item)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all is written, but not for long. What comes later is lost.
    pub fn finish(&self) {
        let until = Instant::now() + GRACE;
        let (done, is_done) = sync_channel(1);
        let mut order = Order::End(done);
        while let Err(TrySendError::Full(back)) = self.orders.try_send(order) {
            if Instant::now() > until {
                return;
            }
            order = back;
            thread::sleep(Duration::from_millis(5));
        }
        // What is not written by then is left: the process ends.
        let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn work<T>(received: &Receiver<Order<T>>, lost: &AtomicU64, mut write: impl FnMut(Vec<T>, u64)) {
    let mut done = None;
    while done.is_none()
        && let Ok(first) = received.recv()
    {
        let mut items = Vec::new();
        let more = std::iter::from_fn(|| received.try_recv().ok());
        for order in std::iter::once(first).chain(more).take(BATCH) {
            match order {
                Order::Item(item) => items.push(item),
                Order::End(told) => {
                    done = Some(told);
                    break;
                }
            }
        }
        write(items, lost.swap(0, Ordering::Relaxed));
    }
    if let Some(done) = done {
        // Nobody may wait any more.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn items_come_in_order_and_none_waits_for_a_thread_that_stands_still() {
        let (written, read) = channel();
        let (go, gone) = channel::<()>();
        let spool = Spool::start("test", move |items: Vec<usize>, lost| {
            let _ = gone.recv();
            written.send((items, lost)).unwrap();
        });
        let spool = spool.unwrap();
        let pushed = 3 * QUEUE;
        (0..pushed).for_each(|n| spool.push(n));
        drop(go);
        spool.finish();
        let (items, lost): (Vec<_>, Vec<_>) = read.try_iter().unzip();
        let items = items.concat();
        assert!(items.is_sorted() && items.len() >= QUEUE, "{}", items.len());
        assert_eq!(items.len() as u64 + lost.iter().sum::<u64>(), pushed as u64);
    }
}
