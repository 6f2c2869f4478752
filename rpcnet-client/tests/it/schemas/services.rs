//! Three versions of a service.

/// A version of the service, by the fields of its job.
macro_rules! version {
    ($(#[$doc:meta])* $version:ident { $($field:tt)* } $job:expr) => {
        $(#[$doc])*
        pub(super) mod $version {
            use std::{
                sync::{
                    Arc,
                    atomic::{AtomicU64, Ordering::SeqCst},
                },
                time::Duration,
            };

            use futures::{TryStreamExt, stream};
            use rpcnet_client::{Message, Replies, Router, RpcError, testing::TestNode};
            use serde::{Deserialize, Serialize};

            #[derive(Debug, Clone, Serialize, Deserialize, Message)]
            pub(crate) struct Job {
                $($field)*
            }

            #[rpcnet_client::service]
            pub(crate) trait Render {
                async fn frame(&self, job: Job) -> u64;

                async fn frames(&self, job: Job) -> Replies<u64>;
            }

            /// Counts the calls that it serves, each of which takes a moment.
            struct Counting(Arc<AtomicU64>);

            impl Render for Counting {
                async fn frame(&self, _: Job) -> u64 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    self.0.fetch_add(1, SeqCst) + 1
                }

                async fn frames(&self, _: Job) -> Replies<u64> {
                    let number = self.0.fetch_add(1, SeqCst) + 1;
                    Replies::new(stream::iter([number]))
                }
            }

            /// Methods that count their calls.
            pub(crate) fn router(served: &Arc<AtomicU64>) -> Router {
                Router::new()
                    .service(RenderServer::new(Counting(Arc::clone(served))))
                    .raw("ping", |_, body| async move { Ok(body) })
            }

            /// A call of a node with the types of the version.
            pub(crate) async fn call(caller: &TestNode) -> Result<u64, RpcError> {
                let workers = caller.client().workers(Some("role=worker"));
                RenderClient::new(workers).frame($job).await.map_err(RpcError::from)
            }

            /// A call whose replies are streamed.
            pub(crate) async fn stream(caller: &TestNode) -> Result<Vec<u64>, RpcError> {
                let workers = caller.client().workers(Some("role=worker"));
                let replies = RenderClient::new(workers).frames($job).await;
                replies.map_err(RpcError::from)?.try_collect().await
            }
        }
    };
}

version! {
    /// The first version.
    first { id: u64 } Job { id: 1 }
}

version! {
    /// A version that understands the first one, and is understood by it.
    second {
        id: u64,
        #[serde(default)]
        quality: Option<u8>,
    } Job { id: 1, quality: None }
}

version! {
    /// A version that does not understand the others.
    third { id: String } Job { id: String::new() }
}
