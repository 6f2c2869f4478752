//! A balancer of one's own: calls about the same customer go to the same worker, for as long as it
//! is there.
//!
//! Run with `cargo run -p rpcnet-client --example custom_balancer`.

use std::{
    collections::hash_map::DefaultHasher,
    error::Error,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use rpcnet_client::{
    DevCa, Method, MethodOptions, Node, Router,
    balance::{Balancer, PickContext, View},
};

/// The cart of a customer.
const CART: Method<String, String> = Method::new("cart");

/// Rendezvous hashing: key and worker give a number, the highest wins. When a worker goes, only its
/// own keys move.
#[derive(Debug)]
struct Rendezvous;

impl Balancer for Rendezvous {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let key = cx.key().unwrap_or_default();
        (0..view.len())
            .filter(|&index| cx.allows(&view[index]))
            .max_by_key(|&index| hash((key, view[index].id())))
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ca = DevCa::new("example");
    let director = Node::builder()
        .tls(ca.issue("director")?)
        .balancer(Arc::new(Rendezvous))
        .start()
        .await?;
    let mut workers = Vec::new();
    for name in ["red", "green", "blue"] {
        let cart = move |customer: String| async move { format!("{customer} is with {name}") };
        let worker = Node::builder()
            .tls(ca.issue(name)?)
            .tag("role", "worker")
            .seeds([director.addr().to_string()])
            .serve(Router::new().method(CART, cart))
            .start()
            .await?;
        workers.push(worker);
    }
    let within = Duration::from_secs(10);
    director
        .wait_for_workers(Some("role=worker"), 3, within)
        .await?;

    ask(&director).await?;
    println!("the same again, and after green has left:");
    ask(&director).await?;
    workers.remove(1).shutdown(Duration::from_secs(5)).await;
    ask(&director).await?;
    Ok(())
}

async fn ask(director: &Node) -> Result<(), Box<dyn Error>> {
    let workers = director.client().workers(Some("role=worker"));
    for customer in ["Ada", "Grace", "Edsger", "Barbara"] {
        // A method of a service says so by `#[rpc(sticky = customer)]`.
        let options = MethodOptions::new().with_sticky_key(hash(customer));
        let reply = CART
            .call_with(&workers, &customer.to_owned(), options)
            .await?;
        println!("  {reply}");
    }
    Ok(())
}
