//! Namespaces, frames, generators and receivers for MCR's tests and benchmarks.
