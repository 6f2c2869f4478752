//! Callers and servers whose types are other versions.
