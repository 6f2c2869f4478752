//! Support of the output of the macros, which users do not need. No part of the API: it follows the
//! macros of the same version.

mod marked;
mod mock_error;
mod mock_method;
mod sticky_key;

pub use futures::{Stream, future::BoxFuture};
pub use serde;

pub use self::{
    marked::{Opaque, SelfDescribing},
    mock_error::MockError,
    mock_method::MockMethod,
    sticky_key::sticky_key,
};
