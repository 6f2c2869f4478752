//! Method of a mock: the closure that answers, and the calls so far.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Decode, Encode, codec::Encoding};

/// Method of a mock. `Req` is the type of its requests, `F` that of the closure that answers.
pub struct MockMethod<Req, F: ?Sized> {
    state: Mutex<MockState<F>>,
    _requests: PhantomData<fn() -> Req>,
}

struct MockState<F: ?Sized> {
    answer: Option<Arc<F>>,
    /// Requests as bytes: not all types of requests can be cloned.
    requests: Vec<Bytes>,
    calls: usize,
}

impl<Req, F: ?Sized> MockMethod<Req, F> {
    /// Sets the closure that answers from now on.
    pub fn set(&self, answer: Arc<F>) {
        self.state.lock().answer = Some(answer);
    }

    /// Counts a call whose request is a stream. The closure that answers it, if one was set.
    pub fn on_stream(&self) -> Option<Arc<F>> {
        let mut state = self.state.lock();
        state.calls += 1;
        state.answer.clone()
    }

    /// Number of the calls so far.
    pub fn count(&self) -> usize {
        self.state.lock().calls
    }
}

impl<Req: Serialize + DeserializeOwned, F: ?Sized> MockMethod<Req, F> {
    /// Records a call. The closure that answers it, if one was set.
    ///
    /// # Panics
    ///
    /// If the request cannot be encoded: no caller could send it.
    pub fn on_call(&self, request: &Req) -> Option<Arc<F>> {
        let bytes = request.encode_as(Encoding::Named);
        let bytes = bytes.unwrap_or_else(|e| panic!("the request could not be encoded: {e}"));
        let mut state = self.state.lock();
        state.calls += 1;
        state.requests.push(bytes);
        state.answer.clone()
    }

    /// Requests of the calls so far.
    ///
    /// # Panics
    ///
    /// If a request cannot be decoded: no server could read it.
    pub fn requests(&self) -> Vec<Req> {
        let requests = self.state.lock().requests.clone();
        let decode = |bytes| {
            let request = Req::decode_as(bytes, Encoding::Named);
            request.unwrap_or_else(|e| panic!("the request could not be decoded: {e}"))
        };
        requests.into_iter().map(decode).collect()
    }
}

impl<Req, F: ?Sized> Default for MockMethod<Req, F> {
    fn default() -> Self {
        let state = MockState {
            answer: None,
            requests: Vec::new(),
            calls: 0,
        };
        Self {
            state: Mutex::new(state),
            _requests: PhantomData,
        }
    }
}

impl<Req, F: ?Sized> fmt::Debug for MockMethod<Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("MockMethod")
            .field("is_set", &state.answer.is_some())
            .field("calls", &state.calls)
            .finish()
    }
}
