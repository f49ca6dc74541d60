//! Counts intervals that share time, and what was left out of order.

/// How many intervals begin before an earlier one has ended. An open end reaches for ever.
pub(crate) fn overlaps(mut intervals: Vec<(f64, f64)>) -> u64 {
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = 0;
    let mut latest_end = f64::NEG_INFINITY;
    for (begin, end) in intervals {
        if begin < latest_end {
            found += 1;
        }
        latest_end = latest_end.max(end);
    }
    found
}

/// Pairs that stand in the wrong order, counted while sorting: n log n.
pub(crate) fn inversions(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    let mut scratch = sorted.clone();
    merge_count(&mut sorted, &mut scratch)
}

fn merge_count(numbers: &mut [u64], scratch: &mut [u64]) -> u64 {
    if numbers.len() < 2 {
        return 0;
    }
    let half = numbers.len() / 2;
    let (left, right) = numbers.split_at_mut(half);
    let mut found = merge_count(left, &mut scratch[..half]) + merge_count(right, &mut scratch[half..]);
    let (mut l, mut r) = (0, 0);
    for slot in scratch.iter_mut() {
        let from_left = r == right.len() || (l < left.len() && left[l] <= right[r]);
        if from_left {
            *slot = left[l];
            l += 1;
        } else {
            // Everything still on the left stood before a smaller one.
            found += (left.len() - l) as u64;
            *slot = right[r];
            r += 1;
        }
    }
    numbers.copy_from_slice(scratch);
    found
}

/// Nearest-rank percentile of sorted values.
pub(crate) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_only_touch_do_not_overlap() {
        assert_eq!(overlaps(vec![(3.0, 4.0), (1.0, 2.0), (2.0, 3.0)]), 0);
    }

    #[test]
    fn an_interval_inside_a_long_earlier_one_overlaps() {
        assert_eq!(overlaps(vec![(0.0, 10.0), (1.0, 2.0), (5.0, 6.0), (10.0, 11.0)]), 2);
        assert_eq!(overlaps(vec![(0.0, f64::INFINITY), (1.0, f64::INFINITY)]), 1);
    }

    #[test]
    fn inversions_are_pairs_in_the_wrong_order() {
        assert_eq!(inversions(&[]), 0);
        assert_eq!(inversions(&[1, 2, 3, 4]), 0);
        assert_eq!(inversions(&[1, 3, 2, 4]), 1);
        assert_eq!(inversions(&[4, 3, 2, 1]), 6);
        assert_eq!(inversions(&[2, 3, 4, 5, 1]), 4);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile::<u64>(&[], 50), None);
    }
}
