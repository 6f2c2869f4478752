//! Clusters of services that find each other, notice failures and call each other over QUIC.
