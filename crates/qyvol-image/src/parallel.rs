//! Work on a sequence by several threads, results in order, memory bounded.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// A source of jobs: yields until it is empty or broken.
pub(crate) type Next<'a, I, E> = Box<dyn FnMut() -> Result<Option<I>, E> + Send + 'a>;

/// Takes jobs from `next` on a thread of its own, maps each with a worker made by `worker`, and
/// passes the results to `sink` in order on this thread. Each worker has only a few jobs at a
/// time. The first error ends everything.
pub(crate) fn map_ordered<I, O, E, W, F>(
    mut next: Next<'_, I, E>,
    worker: W,
    mut sink: impl FnMut(O) -> Result<(), E>,
) -> Result<(), E>
where
    I: Send,
    O: Send,
    E: Send,
    W: Fn() -> F + Sync,
    F: FnMut(I) -> Result<O, E>,
{
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let (jobs, todo) = mpsc::channel::<(I, SyncSender<Result<O, E>>)>();
    let todo = Mutex::new(todo);
    thread::scope(|scope| {
        // The queue of replies bounds what is under way.
        let (queue, replies) = mpsc::sync_channel::<Receiver<Result<O, E>>>(workers * 2);
        let (todo, worker) = (&todo, &worker);
        for _ in 0..workers {
            scope.spawn(move || {
                let mut map = worker();
                loop {
                    let job = match todo.lock() {
                        Ok(todo) => todo.recv(),
                        Err(_) => return,
                    };
                    let Ok((input, reply)) = job else { return };
                    // The other end is gone once an error has ended the run.
                    let _ = reply.send(map(input));
                }
            });
        }
        scope.spawn(move || {
            loop {
                let (reply, result) = mpsc::sync_channel(1);
                let job = match next() {
                    Ok(Some(input)) => jobs.send((input, reply)).is_ok(),
                    Ok(None) => return,
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        let _ = queue.send(result);
                        return;
                    }
                };
                if !job || queue.send(result).is_err() {
                    return;
                }
            }
        });
        for reply in replies {
            match reply.recv() {
                Ok(result) => sink(result?)?,
                // A worker is gone only if it panicked; the scope reports that.
                Err(_) => break,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_an_error_ends_the_run() {
        let mut n = 0u64;
        let mut seen = Vec::new();
        let next: Next<'_, u64, String> = Box::new(move || {
            n += 1;
            Ok((n <= 500).then_some(n))
        });
        map_ordered(
            next,
            || |x| Ok(x * 2),
            |x| {
                seen.push(x);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (1..=500).map(|x| x * 2).collect::<Vec<_>>());

        let next: Next<'_, u64, String> = Box::new(|| Ok(Some(1)));
        let worker = || |_| Err::<u64, _>("broken".to_string());
        assert_eq!(map_ordered(next, worker, |_| Ok(())).unwrap_err(), "broken");
        let next: Next<'_, u64, String> = Box::new(|| Err("no source".to_string()));
        assert_eq!(map_ordered(next, || Ok::<u64, _>, |_| Ok(())).unwrap_err(), "no source");
    }
}
