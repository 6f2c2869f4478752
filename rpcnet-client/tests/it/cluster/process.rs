//! A worker process that is killed by a signal.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use rpcnet_client::Tls;

use super::*;

const SEED: &str = "RPCNET_TEST_PROCESS_SEED";
const DIR: &str = "RPCNET_TEST_PROCESS_DIR";

/// Kills the process and removes its files, also when the test fails.
struct Worker {
    child: Child,
    dir: PathBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Worker {
    fn spawn(name: &str, seed: &Node) -> Self {
        let dir = env::temp_dir().join(format!("rpcnet-{}-{name}", std::process::id()));
        CA.write_pem(&dir, name).expect("files of a node");
        let mut child = Command::new(env::current_exe().expect("this test"))
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "cluster::process::worker_process",
            ])
            .env(SEED, seed.addr().to_string())
            .env(DIR, &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let worker = Self { child, dir };
        assert!(
            out.lines()
                .map_while(Result::ok)
                .any(|line| line.contains("worker is up")),
            "the worker ended early"
        );
        worker
    }
}

/// The other process, no test: it serves until its parent is gone or kills it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests that need another process"]
async fn worker_process() {
    let (Ok(seed), Ok(dir)) = (env::var(SEED), env::var(DIR)) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let file = |name: &str| dir.join(name);
    let tls = Tls::from_pem_files(file("doomed.pem"), file("doomed.key"), file("ca.pem"));
    let node = worker("doomed")
        .tls(tls.expect("files of a node"))
        .cluster_config(ClusterConfig::lan())
        .seeds([seed])
        .require_join(true)
        .start()
        .await
        .expect("a node");
    println!("worker is up");
    let parent = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let _ = parent.await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_idempotent_call_fails_when_a_worker_is_killed() {
    let lan = |builder: NodeBuilder| builder.cluster_config(ClusterConfig::lan());
    let caller = lan(builder("caller"))
        .client_config(|config| config.with_idempotent(["who"]).with_timeout(TEST_TIMEOUT));
    let mut nodes = vec![start(caller, &[]).await];
    for name in ["w1", "w2"] {
        nodes.push(start(lan(worker(name)), &nodes).await);
    }
    let mut doomed = Worker::spawn("doomed", &nodes[0]);
    until("all workers are known", || {
        let all = nodes[0].workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.len() == 3)
    })
    .await;

    let over = Arc::new(AtomicBool::new(false));
    let (calls, by_doomed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (caller, over) = (nodes[0].clone(), Arc::clone(&over));
            let (calls, by_doomed) = (Arc::clone(&calls), Arc::clone(&by_doomed));
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    let reply = who(&caller).await.expect("no call fails");
                    calls.fetch_add(1, SeqCst);
                    by_doomed.fetch_add(usize::from(reply.starts_with("doomed")), SeqCst);
                }
            })
        })
        .collect();
    until("it takes calls", || by_doomed.load(SeqCst) > 20).await;
    doomed.child.kill().expect("it lives");
    until("all know of its death", || {
        nodes
            .iter()
            .all(|node| state("doomed", node) == Some(NodeState::Failed))
    })
    .await;
    let so_far = calls.load(SeqCst);
    until("calls flow on", || calls.load(SeqCst) > so_far + 100).await;
    over.store(true, SeqCst);
    for caller in callers {
        within(caller).await.expect("no call fails");
    }
}
