//! Nodes and workers: immutable snapshots, tag filters, selection and in-flight counts.
