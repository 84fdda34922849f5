//! Bytes to events and nothing else: payload framing, protobuf types, bounded decoding.
