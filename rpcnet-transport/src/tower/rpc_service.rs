//! Connection as a service of tower.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower_service::Service;

use super::{CallReply, CallRequest};
use crate::{RpcClient, RpcError};

/// Connection to one node as a service of tower. Cheap to clone: clones share the connection.
///
/// It is ready while the connection is open. When that is closed, `poll_ready` fails, as tower
/// demands of a service that has to be discarded; it does not reconnect. A connection that is
/// [saturated](RpcClient::is_saturated) is ready: a call waits for its turn within its deadline. So
/// is one whose server [drains](RpcClient::is_draining), which may end: until then calls fail at
/// once, unprocessed.
///
/// A call may be made without `poll_ready`. It has the deadline of its options, which begins when
/// its future is first polled; one that a layer drops is cancelled at the server too.
#[derive(Debug, Clone)]
pub struct RpcService {
    client: RpcClient,
}

impl RpcService {
    /// A service of this connection.
    #[must_use]
    pub fn new(client: RpcClient) -> Self {
        Self { client }
    }

    /// The connection.
    #[must_use]
    pub fn client(&self) -> &RpcClient {
        &self.client
    }
}

impl From<RpcClient> for RpcService {
    fn from(client: RpcClient) -> Self {
        Self::new(client)
    }
}

impl Service<CallRequest> for RpcService {
    type Response = CallReply;
    type Error = RpcError;
    type Future = BoxFuture<'static, Result<CallReply, RpcError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        Poll::Ready(self.client.closed_error().map_or(Ok(()), Err))
    }

    fn call(&mut self, request: CallRequest) -> Self::Future {
        let client = self.client.clone();
        request.send_with(|method, body, options| async move {
            client.call_with(&method, body, options).await
        })
    }
}
