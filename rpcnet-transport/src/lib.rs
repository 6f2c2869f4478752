//! RPC over QUIC: unary and streaming calls, deadlines, cancellation, mutual TLS.
