//! Choosing one of many: a small balancer trait and lock-free strategies for any client.
