//! Seeded randomness.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::seam::Rng;

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood, 2014). Its whole state is a counter, so it needs no lock; every
/// consumer has a stream of its own, so that one more draw here does not shift all draws there.
pub struct SimRng {
    state: AtomicU64,
}

impl SimRng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> SimRng {
        SimRng { state: AtomicU64::new(mix(seed)) }
    }

    /// An independent stream for the consumer called `name`.
    pub fn stream(seed: u64, name: &str) -> SimRng {
        let label =
            name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3));
        SimRng::new(seed ^ label)
    }

    /// 64 bits.
    pub fn draw(&self) -> u64 {
        let counter = self.state.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA);
        mix(counter)
    }

    /// A number below `bound` (zero for a bound of zero). The bias of the multiplication is below
    /// 2⁻³² for the bounds that simulations use.
    pub fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[low, high]`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True once in `n` times.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `items`, which must not be empty.
    pub fn choose<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.draw()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
