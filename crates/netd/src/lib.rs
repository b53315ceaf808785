//! The privileged keeper of MCR and its protocol.
