//! The kernel boundary of MCR: AF_PACKET rings, filters and segmented sends.
