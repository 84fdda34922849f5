//! An embedded broker and a generator of believable agent runs.
