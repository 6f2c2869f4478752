//! What happens to clusters, a file each.

mod crash;

pub(crate) use crash::Crash;
