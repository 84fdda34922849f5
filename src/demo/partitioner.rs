//! Which partition a key belongs to: murmur2 as Kafka's Java client has it, so that the feeder knows before it sends.

/// The partition of `key` among `partitions`, which is not 0.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7FFF_FFFF) % partitions.max(1)
}

fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5BD1_E995;
    let mut hash = 0x9747_B28C_u32 ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_librdkafka() {
        let check = |key: &str, expected| assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        check("kafka", 0xd067_cf64);
        check("giberish123456789", 0x8f55_2b0c);
        check("1234", 0x9fc9_7b14);
        check("234", 0xe7c0_09ca);
        check("34", 0x8739_30da);
        check("4", 0x5a4b_5ca1);
        check("", 0x106e_08d9);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut counts = [0_u32; 4];
        for number in 0..4_000 {
            counts[partition_of(format!("run-{number}").as_bytes(), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
