//! What should happen to a record: the worker thread around a pure core.
