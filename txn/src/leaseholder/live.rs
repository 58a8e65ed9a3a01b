//! Live transactions: the timestamps that garbage collection must leave readable.

use cairn_kv::Timestamp;
use parking_lot::Mutex;

/// The read timestamps in use. A timestamp is drawn under the same mutex under which the garbage
/// collection threshold is computed, so none can fall between.
#[derive(Default)]
pub struct LiveTxns {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Read timestamps by place; zero: free.
    pinned: Vec<Timestamp>,
    free: Vec<usize>,
    /// Reads at or above it are promised to work; only rises.
    gc_threshold: Timestamp,
}

/// A place in the registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Pin(usize);

impl LiveTxns {
    /// A registry over a store whose threshold is `gc_threshold`.
    pub fn new(gc_threshold: Timestamp) -> LiveTxns {
        LiveTxns { inner: Mutex::new(Inner { gc_threshold, ..Inner::default() }) }
    }

    /// Draws a new timestamp and pins it. `None` if `draw` has none.
    pub fn pin_new(&self, draw: impl FnOnce() -> Option<Timestamp>) -> Option<(Pin, Timestamp)> {
        let mut inner = self.inner.lock();
        let ts = draw()?;
        Some((inner.insert(ts), ts))
    }

    /// Pins a timestamp of the past, or returns the threshold above it.
    pub fn pin_at(&self, ts: Timestamp) -> Result<Pin, Timestamp> {
        let mut inner = self.inner.lock();
        if ts < inner.gc_threshold { Err(inner.gc_threshold) } else { Ok(inner.insert(ts)) }
    }

    /// Moves a pin to a newly drawn timestamp.
    pub fn repin_new(&self, pin: &Pin, draw: impl FnOnce() -> Option<Timestamp>) -> Option<Timestamp> {
        let mut inner = self.inner.lock();
        let ts = draw()?;
        inner.pinned[pin.0] = ts;
        Some(ts)
    }

    /// Moves a pin forward.
    pub fn repin_at(&self, pin: &Pin, ts: Timestamp) {
        let mut inner = self.inner.lock();
        assert!(ts >= inner.pinned[pin.0], "read timestamps only rise");
        inner.pinned[pin.0] = ts;
    }

    /// Moves a pin forward to a timestamp that was drawn elsewhere; false: it is not above the pin.
    pub fn repin_above(&self, pin: &Pin, ts: Timestamp) -> bool {
        let mut inner = self.inner.lock();
        let is_above = ts > inner.pinned[pin.0];
        if is_above {
            inner.pinned[pin.0] = ts;
        }
        is_above
    }

    /// Pins what another node's gateway announces as the oldest of its read timestamps (zero: none), as
    /// far as it is not collected yet, in place of what it has announced before.
    pub fn announce(&self, pin: Option<Pin>, oldest: Timestamp) -> Option<Pin> {
        let mut inner = self.inner.lock();
        if oldest.is_zero() {
            if let Some(pin) = pin {
                inner.remove(pin);
            }
            return None;
        }
        let ts = oldest.max(inner.gc_threshold);
        match pin {
            Some(pin) => {
                inner.pinned[pin.0] = ts;
                Some(pin)
            }
            None => Some(inner.insert(ts)),
        }
    }

    /// The oldest read timestamp in use; zero: none.
    pub fn oldest(&self) -> Timestamp {
        self.inner.lock().oldest().unwrap_or(Timestamp::ZERO)
    }

    /// The transaction ended.
    pub fn unpin(&self, pin: Pin) {
        self.inner.lock().remove(pin);
    }

    /// Raises the threshold to `wanted`, but not above a pinned timestamp; returns it. From then on
    /// nothing below can be pinned.
    pub fn raise_gc_threshold(&self, wanted: Timestamp) -> Timestamp {
        let mut inner = self.inner.lock();
        let allowed = inner.oldest().map_or(wanted, |oldest| wanted.min(oldest));
        inner.gc_threshold = inner.gc_threshold.max(allowed);
        inner.gc_threshold
    }
}

impl Inner {
    fn oldest(&self) -> Option<Timestamp> {
        self.pinned.iter().copied().filter(|ts| !ts.is_zero()).min()
    }

    fn remove(&mut self, pin: Pin) {
        self.pinned[pin.0] = Timestamp::ZERO;
        self.free.push(pin.0);
    }

    fn insert(&mut self, ts: Timestamp) -> Pin {
        if let Some(place) = self.free.pop() {
            self.pinned[place] = ts;
            Pin(place)
        } else {
            self.pinned.push(ts);
            Pin(self.pinned.len() - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pin_holds_the_threshold() {
        let live = LiveTxns::default();
        let (old, ts) = live.pin_new(|| Some(Timestamp(10))).expect("drawn");
        assert_eq!(ts, Timestamp(10));
        let (_new, _) = live.pin_new(|| Some(Timestamp(20))).expect("drawn");
        assert_eq!(live.raise_gc_threshold(Timestamp(15)), Timestamp(10));
        assert_eq!(live.pin_at(Timestamp(9)), Err(Timestamp(10)));
        live.unpin(old);
        assert_eq!(live.raise_gc_threshold(Timestamp(15)), Timestamp(15));
        assert_eq!(live.raise_gc_threshold(Timestamp(12)), Timestamp(15), "it only rises");
        assert!(live.pin_at(Timestamp(15)).is_ok());
    }
}
