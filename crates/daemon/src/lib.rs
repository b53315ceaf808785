//! The MCR daemon: control thread, API, configuration and metrics.
