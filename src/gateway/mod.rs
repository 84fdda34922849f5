//! Wiring of channels, threads, supervision and shutdown.
