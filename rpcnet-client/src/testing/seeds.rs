//! Many seeds: the same test in many schedules.

use std::{
    num::NonZeroUsize,
    panic,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use tokio::runtime::Builder;

use super::{TestCluster, seed};

impl TestCluster {
    /// Runs a test once for each of these seeds, each time with an empty cluster in a runtime of
    /// its own, on all cores. With the environment variable `RPCNET_TEST_SEED` only for that seed.
    /// No seed is begun after one has failed.
    ///
    /// ```
    /// use rpcnet_client::testing::TestCluster;
    ///
    /// TestCluster::for_seeds(0..20, async |cluster| {
    ///     let nodes = cluster.start_nodes(3, |node| node).await;
    ///     nodes[1].kill();
    ///     cluster.eventually(|| cluster.has_converged()).await;
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// If the test panics for a seed; the output has its log and the command that repeats it.
    pub fn for_seeds(
        seeds: impl IntoIterator<Item = u64, IntoIter: Send>,
        test: impl AsyncFn(&Self) + Sync,
    ) {
        if let Some(seed) = seed::overriding_seed() {
            return run(seed, &test);
        }
        let seeds = Mutex::new(seeds.into_iter());
        let has_failed = AtomicBool::new(false);
        let run_seeds = || {
            while !has_failed.load(SeqCst)
                && let Some(seed) = next(&seeds)
            {
                let on_panic = FailOnPanic(&has_failed);
                run(seed, &test);
                std::mem::forget(on_panic);
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            // Named as the test, which the command that repeats it needs.
            let name = thread::current().name().unwrap_or("main").to_owned();
            let spawn = |_| {
                let builder = thread::Builder::new().name(name.clone());
                builder.spawn_scoped(scope, run_seeds).expect("a thread")
            };
            let threads: Vec<_> = (0..threads).map(spawn).collect();
            let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
            if let Some(Err(panic)) = results.collect::<Vec<_>>().into_iter().find(Result::is_err) {
                panic::resume_unwind(panic);
            }
        });
    }
}

struct FailOnPanic<'a>(&'a AtomicBool);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn next(seeds: &Mutex<impl Iterator<Item = u64>>) -> Option<u64> {
    seeds.lock().expect("no seed panics").next()
}

fn run(seed: u64, test: &impl AsyncFn(&TestCluster)) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let cluster = TestCluster::with_seed(seed);
        test(&cluster).await;
    });
}
