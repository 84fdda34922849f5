//! Chunk, ring, position, forms: the one structure for live, resume and replay.
