//! Hybrid-logical timestamps: one `u64`.

use std::fmt;

/// A point in the database's time: 52 bits of microseconds since the Unix epoch above 12 bits of
/// logical counter. Order of the integer is order of time. Zero means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Bits of the logical counter.
    pub const LOGICAL_BITS: u32 = 12;
    /// Below every real timestamp.
    pub const ZERO: Timestamp = Timestamp(0);
    /// Above every real timestamp.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The timestamp at `micros` since the epoch with logical part zero.
    pub const fn from_micros(micros: u64) -> Timestamp {
        Timestamp(micros << Self::LOGICAL_BITS)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The logical counter.
    pub const fn logical(self) -> u16 {
        (self.0 & ((1 << Self::LOGICAL_BITS) - 1)) as u16
    }

    /// The next later timestamp.
    #[must_use]
    pub const fn next(self) -> Timestamp {
        Timestamp(self.0 + 1)
    }

    /// The next earlier timestamp; `ZERO` stays.
    #[must_use]
    pub const fn prev(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(1))
    }

    /// Whether this is the "none" value.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This timestamp moved by `micros` later.
    #[must_use]
    pub const fn add_micros(self, micros: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(micros << Self::LOGICAL_BITS))
    }

    /// This timestamp moved by `micros` earlier.
    #[must_use]
    pub const fn sub_micros(self, micros: u64) -> Timestamp {
        Timestamp(self.0.saturating_sub(micros << Self::LOGICAL_BITS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06},{}", self.micros() / 1_000_000, self.micros() % 1_000_000, self.logical())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
