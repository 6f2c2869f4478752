//! `cargo xtask`: how people run things in this workspace.
fn main() {}
