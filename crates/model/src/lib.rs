//! The vocabulary of MCR: relays, endpoints, states, counters and their text, TOML and JSON forms.
