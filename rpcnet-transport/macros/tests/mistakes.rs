//! Mistakes in services and messages, each with the error that the compiler prints.
//!
//! The texts of the compiler's own errors differ between its versions. After a change of the
//! toolchain or of a message, `TRYBUILD=overwrite cargo test -p rpcnet-transport-macros --test
//! mistakes` writes them anew; read the difference.

#[test]
fn each_mistake_is_reported_where_it_is_with_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
