//! Bytes to headers and back: checksums and the rewrite of a frame.
