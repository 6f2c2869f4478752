//! A pool of unequal workers: GPUs of two sizes and CPUs, told apart by tags. Work goes to a GPU as
//! long as one has room and spills to the CPUs when all are busy or gone; what needs one kind of
//! worker asks for it by tags.
//!
//! A worker that has no room rejects a call before it does anything, and says so
//! (`Status::overloaded`): the client may then go elsewhere, whatever the call does.
//!
//! Run with `cargo run -p rpcnet-client --example heterogeneous_pool`.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{PATIENCE, Result, Trust, count, ensure, until};
use futures::{StreamExt, TryStreamExt, stream};
use rpcnet_client::{
    LoadBalancingStrategy, Method, Node, NodeBuilder, Router, RpcError, Status, WorkerCallOptions,
};
use tokio::sync::Semaphore;

/// The square of a number, and the machine that computed it.
const INFER: Method<u64, (String, u64)> = Method::new("infer");

/// A machine of the pool: how it is called, and what it has.
struct Machine {
    name: &'static str,
    kind: &'static str,
    model: &'static str,
    /// How much it does at a time.
    slots: usize,
    /// How long it takes for one.
    time: Duration,
}

impl Machine {
    /// Serves [`INFER`] in its slots, and counts what ran.
    async fn start(&self, builder: NodeBuilder, ran: &Arc<AtomicUsize>) -> Result<Node> {
        let Self { name, time, .. } = *self;
        let (slots, ran) = (Arc::new(Semaphore::new(self.slots)), Arc::clone(ran));
        let infer = move |n: u64| {
            let slot = Arc::clone(&slots).try_acquire_owned();
            let ran = Arc::clone(&ran);
            async move {
                let _slot = slot.map_err(|_| Status::overloaded("every slot is taken"))?;
                tokio::time::sleep(time).await;
                ran.fetch_add(1, SeqCst);
                Ok::<_, Status>((name.to_owned(), n * n))
            }
        };
        let builder = builder
            .tag("kind", self.kind)
            .tag("model", self.model)
            // How much it takes in relation to the others.
            .tag("weight", self.slots.to_string());
        let methods = Router::new().method(INFER, infer);
        Ok(builder.serve(methods).start().await?)
    }
}

/// On a GPU if one has room, on a CPU otherwise.
async fn infer(front: &Node, n: u64) -> Result<String, RpcError> {
    let each_once = WorkerCallOptions::new().with_attempts_max(2);
    let gpus = front.client().workers(GPUS).with_options(each_once);
    let (name, _) = match INFER.call(&gpus, &n).await {
        // Nothing was done, and the reason lies with the GPUs: they are busy, or gone.
        Err(error) if error.is_retryable() => INFER.call(&front.client().workers(CPUS), &n).await?,
        answer => answer?,
    };
    Ok(name)
}

/// Makes `calls` calls, so many at a time, and says how many each machine did.
async fn run(front: &Node, calls: u64, at_a_time: usize) -> Result<BTreeMap<String, usize>> {
    let names = (0..calls).map(async |n| infer(front, n).await);
    let names: Vec<_> = stream::iter(names)
        .buffer_unordered(at_a_time)
        .try_collect()
        .await?;
    let mut done = BTreeMap::new();
    for name in names {
        *done.entry(name).or_default() += 1;
    }
    Ok(done)
}

#[tokio::main]
async fn main() -> Result {
    let trust = Trust::new();
    let front = trust
        .node("front")?
        .strategy(LoadBalancingStrategy::Weighted)
        .client_config(|config| config.with_timeout(PATIENCE))
        .start()
        .await?;
    let ran = Arc::new(AtomicUsize::new(0));
    let (mut gpus, mut cpus) = (Vec::new(), Vec::new());
    for machine in &MACHINES {
        let builder = trust.node(machine.name)?.seeds([front.addr().to_string()]);
        let node = machine.start(builder, &ran).await?;
        match machine.kind {
            "gpu" => gpus.push(node),
            _ => cpus.push(node),
        }
    }
    until("the pool is complete", || {
        count(&front, None) == MACHINES.len()
    })
    .await?;
    spread(&front).await?;
    call_exact_model(&front).await?;
    let leave = async {
        for gpu in gpus {
            println!("{} leaves", gpu.name());
            gpu.shutdown(Duration::from_secs(10)).await;
        }
        Ok(())
    };
    let (meanwhile, ()) = tokio::try_join!(run(&front, 200, 24), leave)?;
    println!("meanwhile:    {meanwhile:?}");
    until("all know", || count(&front, GPUS) == 0).await?;
    run_without_gpus(&front).await?;
    let calls = 40 + 200 + 10 + 200 + 40;
    ensure(ran.load(SeqCst) == calls, "every call ran once")?;
    println!("{calls} calls, none failed, each ran once");
    Ok(())
}

/// GPUs first, by what they can take; what does not fit goes to CPUs.
async fn spread(front: &Node) -> Result {
    let calm = run(front, 40, 2).await?;
    println!("2 at a time:  {calm:?}");
    ensure(done_on(&calm, "gpu") == 40, "GPUs come first")?;
    let by = |name| calm.get(name).copied().unwrap_or_default();
    // It takes four times as much at a time.
    ensure(
        by("gpu-big") >= 3 * by("gpu-small"),
        "among them by what they can take",
    )?;
    let rush = run(front, 200, 24).await?;
    println!("24 at a time: {rush:?}");
    ensure(
        done_on(&rush, "gpu") > 0 && done_on(&rush, "cpu") > 0,
        "what does not fit spills",
    )
}

/// A filter of two tags.
async fn call_exact_model(front: &Node) -> Result {
    let mut exact = 0;
    let only = front.client().workers(Some("kind=gpu,model=h100"));
    for n in 0..10 {
        let (name, _) = INFER.call(&only, &n).await?;
        exact += usize::from(name == "gpu-big");
    }
    println!("model=h100:   {exact} of 10 by gpu-big");
    ensure(exact == 10, "a call goes only where its filter says")
}

/// CPUs do it all, and a call to a GPU alone fails.
async fn run_without_gpus(front: &Node) -> Result {
    let without = run(front, 40, 2).await?;
    println!("2 at a time:  {without:?}");
    ensure(
        done_on(&without, "cpu") == 40,
        "without GPUs the CPUs do it",
    )?;
    let gpus = front.client().workers(GPUS);
    match INFER.call(&gpus, &1).await {
        Err(error) => println!("kind=gpu:     {error}"),
        Ok(_) => return Err("no GPU is left to answer".into()),
    }
    Ok(())
}

/// How many calls the machines of a kind did.
fn done_on(done: &BTreeMap<String, usize>, kind: &str) -> usize {
    let of_kind = done.iter().filter(|(name, _)| name.starts_with(kind));
    of_kind.map(|(_, calls)| calls).sum()
}

const GPUS: Option<&str> = Some("kind=gpu");
const CPUS: Option<&str> = Some("kind=cpu");

const MACHINES: [Machine; 4] = [
    Machine::new("gpu-big", "gpu", "h100", 8, 20),
    Machine::new("gpu-small", "gpu", "t4", 2, 40),
    Machine::new("cpu-1", "cpu", "epyc", 16, 60),
    Machine::new("cpu-2", "cpu", "epyc", 16, 60),
];

impl Machine {
    const fn new(
        name: &'static str,
        kind: &'static str,
        model: &'static str,
        slots: usize,
        ms: u64,
    ) -> Self {
        let time = Duration::from_millis(ms);
        Self {
            name,
            kind,
            model,
            slots,
            time,
        }
    }
}
