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

    // The literals were computed once and agree with a second implementation. A change here splits every cluster
    // that runs two versions.

    #[test]
    fn mixer_is_frozen() {
        let golden = [
            (0, 0),
            (1, 0x5692_161d_100b_05e5),
            (2, 0xdbd2_3897_3a2b_148a),
            (0x0123_4567_89ab_cdef, 0xb2c0_58e4_ebb5_112c),
            (u64::MAX, 0xb4d0_55fc_f2cb_bd7b),
        ];
        for (value, want) in golden {
            assert_eq!(mix(value), want, "{value:#x}");
        }
    }

    #[test]
    fn hash_is_frozen() {
        let golden = [
            (0, "", 0),
            (1, "", 0x7ab4_0e09_0f36_3a7d),
            (0, "a", 0x343e_6937_0ad4_a4ee),
            (0, "b", 0x0b23_151e_5028_b6fc),
            (7, "basket:42", 0x0928_54ad_922b_cdc7),
            (7, "basket:43", 0x741b_aeae_a19a_5cf7),
            (0, "12345678", 0xe280_8d8c_c061_cf68),
            (0, "12345678\0", 0x5d3e_2989_6a88_43ad),
            (0, "a name longer than eight bytes", 0xc283_b062_7c9f_2d03),
            (u64::MAX, "größe", 0xb033_1677_b37b_d71c),
        ];
        for (seed, text, want) in golden {
            assert_eq!(hash(seed, text.as_bytes()), want, "{seed} {text:?}");
        }
    }

    #[test]
    fn zero_bytes_at_the_end_change_the_hash() {
        let zeros = [0u8; 24];
        let mut seen: Vec<u64> = (0..=zeros.len()).map(|length| hash(1, &zeros[..length])).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), zeros.len() + 1);
    }

    #[test]
    fn one_flipped_bit_flips_about_half_of_the_hash() {
        let bytes = *b"a name of 24 bytes, yes!";
        let before = hash(3, &bytes);
        let mut flips = 0;
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            let changed = (before ^ hash(3, &other)).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit} changes {changed} of 64");
            flips += changed;
        }
        let mean = f64::from(flips) / (bytes.len() * 8) as f64;
        assert!((31.0..33.0).contains(&mean), "{mean} of 64 on average");
    }
}
