//! The programs as processes: two workers and gateways, on ports that the system chooses.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use rpcnet_client::{ClusterKey, DevCa};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Worker that runs. Dropped, it is killed.
struct RunningWorker {
    process: Child,
    addr: String,
    /// Open, as a worker that prints into a closed pipe fails.
    _stdout: BufReader<ChildStdout>,
}

/// Executable of the worker. Cargo tells a test where the programs of its own package are; that of
/// another one is built here, with the features that the tests of the workspace have.
fn worker_executable() -> PathBuf {
    let mut build = std::process::Command::new(env!("CARGO"));
    build
        .args(["build", "--workspace", "--bin", "render-worker"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    // What cargo tells a test about its package would have build scripts run again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    let built = build.output().expect("cargo runs");
    assert!(built.status.success(), "the worker does not build");
    let messages = String::from_utf8(built.stdout).expect("messages are UTF-8");
    let messages = messages.lines().map(serde_json::from_str);
    let mut executables = messages.filter_map(|message: Result<serde_json::Value, _>| {
        Some(PathBuf::from(message.ok()?["executable"].as_str()?))
    });
    executables.next_back().expect("an executable was built")
}

fn write_keys(folder: &Path) {
    let ca = DevCa::new("render");
    for name in ["worker-1", "worker-2", "gateway"] {
        ca.write_pem(folder, name).expect("a writable folder");
    }
    let key = ClusterKey::generate().to_hex();
    fs::write(folder.join("cluster.key"), key).expect("a writable folder");
}

/// Starts a worker, and waits until it serves.
async fn start_worker(
    executable: &Path,
    keys: &Path,
    name: &str,
    arguments: &[&str],
) -> RunningWorker {
    let mut process = Command::new(executable)
        .args(["--name", name, "--keys"])
        .arg(keys)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the worker starts");
    let stdout = process.stdout.take().expect("it is piped");
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    let read = timeout(LIMIT, stdout.read_line(&mut line)).await;
    read.expect("the worker is ready in time")
        .expect("a line of text");
    let addr = line.trim().strip_prefix(&format!("{name} serves at "));
    RunningWorker {
        process,
        addr: addr.expect("its address").to_owned(),
        _stdout: stdout,
    }
}

/// Runs a gateway to its end.
async fn run_gateway(keys: &Path, seed: &str, jobs: &[&str]) -> Output {
    let gateway = Command::new(env!("CARGO_BIN_EXE_render-gateway"))
        .arg("--keys")
        .arg(keys)
        .args(["--seed", seed])
        .args(jobs)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, gateway).await;
    output.expect("it ends in time").expect("it starts")
}

fn printed(output: &Output) -> Vec<&str> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines().collect()
}

#[tokio::test]
async fn a_gateway_prints_films_of_workers_of_which_one_is_killed() {
    let executable = worker_executable();
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_keys(folder.path());
    let mut first = start_worker(&executable, folder.path(), "worker-1", &[]).await;
    let seed = ["--seed", &first.addr];
    let second = start_worker(&executable, folder.path(), "worker-2", &seed).await;

    let films = run_gateway(folder.path(), &first.addr, &["ball:3", "wave:1"]).await;
    let expected = [
        "ball, 3 frames, about 60 ms:",
        "  [o       ]",
        "  [ o      ]",
        "  [  o     ]",
        "wave, 1 frames, about 20 ms:",
        "  [~~  ~~  ]",
    ];
    assert_eq!(printed(&films), expected);
    assert!(films.status.success(), "{}", films.status);

    first.process.kill().await.expect("the worker is killed");
    let films = run_gateway(folder.path(), &second.addr, &["cube:2", "wave:1"]).await;
    let expected = [
        "cube: unknown scene \"cube\"",
        "wave, 1 frames, about 20 ms:",
        "  [~~  ~~  ]",
    ];
    assert_eq!(printed(&films), expected);
    assert_eq!(films.status.code(), Some(1));
}

/// Longest wait for a process. Only a failing test waits this long.
const LIMIT: Duration = Duration::from_secs(60);
