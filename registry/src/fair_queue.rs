//! A fair queue for permits, served round-robin by peer: a peer with many
//! requests delays only itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::cache::lock;
use crate::peer::Peer;

/// How many may wait: in total, and per peer.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_PER_PEER: usize = 256;

/// Hands out a number of permits.
pub(crate) struct FairQueue {
    queue: Mutex<Queue>,
}

struct Queue {
    free: usize,
    /// The waiters of each peer, in order; no list is empty.
    waiting: HashMap<Peer, VecDeque<oneshot::Sender<Permit>>>,
    /// The peers that wait, each once.
    turns: VecDeque<Peer>,
    total: usize,
}

/// The right to do one piece of work, released on drop.
pub(crate) struct Permit(Option<Arc<FairQueue>>);

impl FairQueue {
    pub(crate) fn new(permits: usize) -> Arc<FairQueue> {
        Arc::new(FairQueue {
            queue: Mutex::new(Queue {
                free: permits,
                waiting: HashMap::new(),
                turns: VecDeque::new(),
                total: 0,
            }),
        })
    }

    /// Waits for this peer's turn. None if too many wait already.
    pub(crate) async fn acquire(self: &Arc<FairQueue>, peer: Peer) -> Option<Permit> {
        let waits = {
            let mut queue = lock(&self.queue);
            if queue.free > 0 {
                queue.free -= 1;
                return Some(Permit(Some(self.clone())));
            }
            queue.wait(peer)?
        };
        waits.await.ok()
    }

    fn release(self: Arc<FairQueue>) {
        let mut queue = lock(&self.queue);
        while let Some(next) = queue.next() {
            match next.send(Permit(Some(self.clone()))) {
                Ok(()) => return,
                // It has left; it gets no permit.
                Err(mut permit) => drop(permit.0.take()),
            }
        }
        queue.free += 1;
    }
}

impl Queue {
    fn wait(&mut self, peer: Peer) -> Option<oneshot::Receiver<Permit>> {
        let mine = self.waiting.get(&peer).map_or(0, VecDeque::len);
        if mine >= MAX_WAITING_PER_PEER {
            return None;
        }
        if self.total >= MAX_WAITING {
            // The last waiter of the busiest peer gives way to a peer that has fewer.
            let theirs = self.waiting.values_mut().max_by_key(|waiting| waiting.len())?;
            if theirs.len() <= mine + 1 {
                return None;
            }
            theirs.pop_back();
            self.total -= 1;
        }
        let (send, receive) = oneshot::channel();
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.is_empty() {
            self.turns.push_back(peer);
        }
        waiting.push_back(send);
        self.total += 1;
        Some(receive)
    }

    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let peer = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&peer)?;
        let next = waiting.pop_front()?;
        self.total -= 1;
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&peer)),
            false => self.turns.push_back(peer),
        }
        Some(next)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(fair) = self.0.take() {
            fair.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn queue_serves_peers_round_robin() {
        let fair = FairQueue::new(1);
        let Poll::Ready(Some(permit)) = poll(pin!(fair.acquire(peer(1)))) else {
            panic!()
        };
        let mut many: Vec<_> = (0..100).map(|_| Box::pin(fair.acquire(peer(1)))).collect();
        assert!(many.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let mut other = pin!(fair.acquire(peer(2)));
        assert!(poll(other.as_mut()).is_pending());
        drop(permit);
        let Poll::Ready(Some(permit)) = poll(many[0].as_mut()) else {
            panic!()
        };
        assert!(poll(other.as_mut()).is_pending());
        drop(permit);
        // Waiters that left are skipped.
        let Poll::Ready(Some(permit)) = poll(other.as_mut()) else {
            panic!()
        };
        many.truncate(2);
        drop(permit);
        let Poll::Ready(Some(permit)) = poll(many[1].as_mut()) else {
            panic!()
        };
        drop(permit);
        let queue = lock(&fair.queue);
        assert_eq!(
            (queue.free, queue.total, queue.turns.len(), queue.waiting.len()),
            (1, 0, 0, 0)
        );
    }

    #[test]
    fn full_queue_displaces_the_busiest_peer() {
        let fair = FairQueue::new(0);
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|n| Box::pin(fair.acquire(peer(u8::try_from(n % 4).unwrap()))))
            .collect();
        assert!(waiting.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        // A peer's own share is full too.
        assert!(matches!(poll(pin!(fair.acquire(peer(0)))), Poll::Ready(None)));
        let mut late = pin!(fair.acquire(peer(9)));
        assert!(poll(late.as_mut()).is_pending());
        let refused = waiting.iter_mut().filter_map(|one| match poll(one.as_mut()) {
            Poll::Ready(None) => Some(()),
            _ => None,
        });
        assert_eq!(refused.count(), 1);
        assert_eq!(lock(&fair.queue).total, MAX_WAITING);
    }
}
