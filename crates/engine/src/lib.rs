//! The decisions of MCR: wanted state against actual state, without IO or a clock.
