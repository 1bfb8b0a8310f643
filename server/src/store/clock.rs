//! The commit clock (invariant 7): stamps of commits, and the `as_of` of reads, without a lock.
//!
//! A read at `as_of` must see every commit stamped at or before it, for ever. So a reader announces
//! the `as_of` it is about to give, a committer announces the stamp it is about to write, and each
//! then looks at what the other announced (both in one total order, `SeqCst`):
//!
//! ```text
//! reader                                        committer (one at a time)
//! view    = the published view                  s       = max(last + 1, wall clock, opened_at)
//! a       = max(view's stamp,                   pending = s
//!               min(wall clock, pending − 1))   given < s ?  else s = given + 1, announced again
//! given   = max(given, a)                       write, publish the view
//! pending > a and the view is still published?  pending = none
//!           else begin again
//! ```
//!
//! If the reader finds no pending stamp at or below `a`, then either a committer that chooses such a
//! stamp comes later and sees `given`, or it has finished, and the view is no longer the published one.
//! The order of the reader's two checks matters: a commit may finish between them.
//!
//! `as_of` is also bounded by a reservation that is on disk, so that it survives a restart: the next
//! process begins after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use millpond_engine::time::{Micros, Span};

/// Where the time of day comes from; tests put their own here.
pub type WallClock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> WallClock {
    Arc::new(|| Micros(chrono::Utc::now().timestamp_micros()))
}

/// How far ahead of the wall clock `as_of` is reserved.
pub(super) const RESERVE: Span = Span(1_000_000);

const NONE: i64 = i64::MAX;

pub(super) struct CommitClock {
    wall: WallClock,
    pending: AtomicI64,
    given: AtomicI64,
    reserved: AtomicI64,
}

impl CommitClock {
    /// A clock that goes on after `floor`: the last stamp or the last reservation, whichever is later.
    pub fn new(wall: WallClock, floor: Micros) -> Self {
        Self {
            wall,
            pending: AtomicI64::new(NONE),
            given: AtomicI64::new(floor.0),
            reserved: AtomicI64::new(floor.0),
        }
    }

    pub fn wall(&self) -> Micros {
        (self.wall)()
    }

    pub fn reserved(&self) -> Micros {
        Micros(self.reserved.load(SeqCst))
    }

    /// `until` is on disk: `as_of` may go up to it.
    pub fn set_reserved(&self, until: Micros) {
        self.reserved.store(until.0, SeqCst);
    }

    /// Takes back what is reserved and not given: no `as_of` goes beyond what this returns, or beyond
    /// the stamp of a commit.
    pub fn freeze(&self) -> Micros {
        loop {
            let given = self.given();
            self.set_reserved(given);
            if self.given() == given {
                return given;
            }
        }
    }

    fn given(&self) -> Micros {
        Micros(self.given.load(SeqCst))
    }

    /// A view and its `as_of`. `published` loads the current view, `stamp` is the stamp it stands at.
    pub fn read<V>(&self, published: impl Fn() -> Arc<V>, stamp: impl Fn(&V) -> Micros) -> (Arc<V>, Micros) {
        loop {
            let view = published();
            let now = self.wall().0.min(self.reserved.load(SeqCst));
            let before_pending = self.pending.load(SeqCst).saturating_sub(1);
            let as_of = stamp(&view).0.max(now.min(before_pending));
            self.given.fetch_max(as_of, SeqCst);
            // Closing takes back what is reserved and not given: looked at again, like the pending stamp.
            let covered = as_of <= stamp(&view).0.max(self.reserved.load(SeqCst));
            if covered && self.pending.load(SeqCst) > as_of && Arc::ptr_eq(&view, &published()) {
                return (view, Micros(as_of));
            }
            std::hint::spin_loop();
        }
    }

    /// The stamp of the next commit, announced to readers: after `last`, not before `floor` (the
    /// epoch's `opened_at`). Called by one committer at a time.
    pub fn begin(&self, last: Micros, floor: Micros) -> Micros {
        let mut stamp = last.next().max(self.wall()).max(floor);
        loop {
            self.pending.store(stamp.0, SeqCst);
            let given = self.given();
            if given < stamp {
                return stamp;
            }
            stamp = given.next();
        }
    }

    /// The commit's view is published. (After a failed write this is not called: nothing may be
    /// given at or beyond a stamp that may or may not be on disk.)
    pub fn end(&self) {
        self.pending.store(NONE, SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use arc_swap::ArcSwap;

    use super::*;

    /// A view that knows every stamp committed before it.
    struct Commits(Vec<Micros>);

    fn last(c: &Commits) -> Micros {
        *c.0.last().unwrap()
    }

    #[test]
    fn a_quiet_clock_runs_on_and_waits_before_a_pending_stamp() {
        let wall = Arc::new(AtomicI64::new(100));
        let w = Arc::clone(&wall);
        let clock = CommitClock::new(Arc::new(move || Micros(w.load(SeqCst))), Micros(50));
        let view = Arc::new(Commits(vec![Micros(50)]));
        let as_of = || clock.read(|| Arc::clone(&view), last).1;
        assert_eq!(as_of(), Micros(50), "not beyond what is reserved");
        clock.set_reserved(Micros(1_000));
        assert_eq!(as_of(), Micros(100));
        assert_eq!(clock.begin(Micros(50), Micros(0)), Micros(101), "100 was given");
        wall.store(200, SeqCst);
        assert_eq!(as_of(), Micros(100), "the stamp is pending");
        clock.end();
        assert_eq!(as_of(), Micros(200));
        assert_eq!(clock.begin(Micros(101), Micros(500)), Micros(500), "opened_at");
        clock.end();
        wall.store(10, SeqCst);
        assert_eq!(clock.begin(Micros(500), Micros(0)), Micros(501), "the wall clock went back");
    }

    /// A clock at 100 with everything reserved, and a view of one commit at 50.
    fn at_100() -> (CommitClock, ArcSwap<Commits>) {
        let clock = CommitClock::new(Arc::new(|| Micros(100)), Micros(50));
        clock.set_reserved(Micros(1_000));
        (clock, ArcSwap::from_pointee(Commits(vec![Micros(50)])))
    }

    fn commit(clock: &CommitClock, published: &ArcSwap<Commits>) -> Micros {
        let stamp = clock.begin(last(&published.load()), Micros(0));
        published.store(Arc::new(Commits(vec![Micros(50), stamp])));
        clock.end();
        stamp
    }

    #[test]
    fn a_commit_that_begins_while_a_reader_chooses_is_seen() {
        let (clock, published) = at_100();
        let begun = std::cell::Cell::new(None);
        // `stamp` is asked after the reader looked for a pending stamp, before it announces its own.
        let stamp = |view: &Commits| {
            if begun.get().is_none() {
                begun.set(Some(clock.begin(last(view), Micros(0))));
            }
            last(view)
        };
        let (view, as_of) = clock.read(|| published.load_full(), stamp);
        assert_eq!((begun.get(), view.0.len()), (Some(Micros(100)), 1));
        assert_eq!(as_of, Micros(99), "before the pending stamp");
    }

    #[test]
    fn a_commit_that_ends_while_a_reader_chooses_is_seen() {
        let (clock, published) = at_100();
        let done = std::cell::Cell::new(None);
        let stamp = |view: &Commits| {
            if done.get().is_none() {
                done.set(Some(commit(&clock, &published)));
            }
            last(view)
        };
        let (view, as_of) = clock.read(|| published.load_full(), stamp);
        assert_eq!((done.get(), as_of, view.0.len()), (Some(Micros(100)), Micros(100), 2));
    }

    #[test]
    fn a_commit_that_ends_between_a_readers_last_looks_is_seen() {
        let (clock, published) = at_100();
        let begun = std::cell::Cell::new(None);
        let stamp = |view: &Commits| {
            if begun.get().is_none() {
                begun.set(Some(clock.begin(last(view), Micros(0))));
            }
            last(view)
        };
        let looks = std::cell::Cell::new(0);
        let look = || {
            let view = published.load_full();
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                published.store(Arc::new(Commits(vec![Micros(50), Micros(100)])));
                clock.end();
            }
            view
        };
        let (view, as_of) = clock.read(look, stamp);
        assert_eq!((begun.get(), as_of, view.0.len()), (Some(Micros(100)), Micros(100), 2));
    }

    #[test]
    fn a_commit_after_a_readers_last_look_is_stamped_later() {
        let (clock, published) = at_100();
        let looks = std::cell::Cell::new(0);
        let later = std::cell::Cell::new(None);
        let look = || {
            let view = published.load_full();
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                later.set(Some(commit(&clock, &published)));
            }
            view
        };
        let (view, as_of) = clock.read(look, last);
        assert_eq!((as_of, view.0.len()), (Micros(100), 1));
        assert_eq!(later.get(), Some(Micros(101)));
    }

    #[test]
    fn an_as_of_once_given_is_never_contradicted() {
        // The wall clock moves in coarse steps, so that stamps and reads collide all the time.
        let wall = Arc::new(AtomicI64::new(0));
        let w = Arc::clone(&wall);
        let clock = Arc::new(CommitClock::new(Arc::new(move || Micros(w.load(SeqCst) / 64)), Micros(0)));
        clock.set_reserved(Micros(i64::MAX - 1));
        let published = Arc::new(ArcSwap::from_pointee(Commits(vec![Micros(0)])));
        let committer = Arc::new(Mutex::new(()));
        let done = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(6));

        let committers: Vec<_> = (0..2)
            .map(|_| {
                let (clock, published, committer, start, wall) =
                    (clock.clone(), published.clone(), committer.clone(), start.clone(), wall.clone());
                thread::spawn(move || {
                    start.wait();
                    for _ in 0..1_000 {
                        let _one = committer.lock().unwrap();
                        let old = published.load_full();
                        let stamp = clock.begin(last(&old), Micros(0));
                        wall.fetch_add(7, SeqCst);
                        if stamp.0 % 5 == 0 {
                            thread::yield_now();
                        }
                        let mut commits = old.0.clone();
                        commits.push(stamp);
                        published.store(Arc::new(Commits(commits)));
                        clock.end();
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (clock, published, done, start, wall) =
                    (clock.clone(), published.clone(), done.clone(), start.clone(), wall.clone());
                thread::spawn(move || {
                    start.wait();
                    let mut reads = Vec::new();
                    while !done.load(SeqCst) || reads.is_empty() {
                        let (view, as_of) = clock.read(|| published.load_full(), last);
                        wall.fetch_add(3, SeqCst);
                        if reads.len() < 50_000 {
                            reads.push((as_of, view.0.len()));
                        }
                    }
                    reads
                })
            })
            .collect();
        for c in committers {
            c.join().unwrap();
        }
        done.store(true, SeqCst);
        let all = &published.load_full().0;
        assert!(all.is_sorted_by(|a, b| a < b), "stamps are strictly ascending");
        for reader in readers {
            for (as_of, seen) in reader.join().unwrap() {
                let at_or_before = all.partition_point(|stamp| *stamp <= as_of);
                assert_eq!(seen, at_or_before, "a read at {as_of} saw {seen} commits");
            }
        }
    }
}
