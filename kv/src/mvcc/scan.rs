//! Scans at a timestamp.

use super::{PastVersion, check_gc};
use crate::engine::{Cf, Engine, EngineIter};
use crate::version::{self, HEADER_LEN, in_span, physical_end};
use crate::{Result, Timestamp};

/// Called with key, value and version timestamp of a row; says whether to go on.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8], Timestamp) -> bool + 'a;

/// A scan over committed versions of `[start, end)` at `ts`, merging `data` and `history`.
///
/// As long as `data` holds nothing newer than `ts` it is a plain scan of `data`; `history` is opened
/// for the first key that has a newer version, and from the start when `ts` lies below the
/// tombstone threshold.
pub struct Scanner<'a> {
    engine: &'a dyn Engine,
    start: Vec<u8>,
    end: Vec<u8>,
    ts: Timestamp,
    reverse: bool,
    data: Box<dyn EngineIter + Send + 'a>,
    /// Where single keys are looked up.
    history: Option<Box<dyn EngineIter + Send + 'a>>,
    /// Below the tombstone threshold: walks the keys of `history` beside `data`.
    forgotten: Option<Forgotten<'a>>,
    skipped: u64,
    scratch: Vec<u8>,
}

/// The keys of `history`, to find those that `data` has forgotten.
struct Forgotten<'a> {
    iter: Box<dyn EngineIter + Send + 'a>,
    /// The user key whose entries `iter` stands at; empty at the end.
    key: Vec<u8>,
    at_end: bool,
}

/// Which side the next key in order comes from.
enum Side {
    Data,
    Forgotten,
    End,
}

impl<'a> Scanner<'a> {
    /// Opens the iterators, `data` before `history`. The caller checks the replicated GC threshold
    /// after.
    pub fn new(
        engine: &'a dyn Engine,
        start: &[u8],
        end: &[u8],
        ts: Timestamp,
        reverse: bool,
    ) -> Result<Scanner<'a>> {
        let mut data = engine.iter(Cf::Data, start, end)?;
        if reverse {
            data.seek_to_last();
        } else {
            data.seek_to_first();
        }
        let mut scanner = Scanner {
            engine,
            start: start.to_vec(),
            end: end.to_vec(),
            ts,
            reverse,
            data,
            history: None,
            forgotten: None,
            skipped: 0,
            scratch: Vec::new(),
        };
        if ts < engine.filter_thresholds().tombstone {
            let mut iter = scanner.open_history()?;
            if reverse {
                iter.seek_to_last();
            } else {
                iter.seek_to_first();
            }
            let mut forgotten = Forgotten { iter, key: Vec::new(), at_end: false };
            forgotten.settle(&scanner.start, &scanner.end, reverse)?;
            scanner.forgotten = Some(forgotten);
        }
        Ok(scanner)
    }

    /// Calls `row` with key, value and version timestamp of each visible row in order until it
    /// returns false or the span ends; returns whether the span ended. May be called again to go
    /// on behind the last row shown.
    pub fn for_each(&mut self, row: &mut RowVisitor<'_>) -> Result<bool> {
        if self.forgotten.is_some() {
            return self.for_each_merged(row);
        }
        // The loop of a full scan: nothing but what a visible row needs.
        while let Some((key, value)) = self.data.entry() {
            let header = version::header(key, value)?;
            let more = if header.ts <= self.ts && !header.tombstone {
                row(key, &value[HEADER_LEN..], header.ts)
            } else {
                self.show_data_row(row)?
            };
            if self.reverse {
                self.data.prev();
            } else {
                self.data.next();
            }
            if !more {
                return Ok(false);
            }
        }
        self.data.status()?;
        Ok(true)
    }

    /// How many keys this scan has passed that were not visible: tombstones, versions newer than
    /// it, forgotten keys. A span where this is large wants compaction (R4).
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Shows the row that `data` stands at, if it is visible. Returns whether to go on.
    fn show_data_row(&mut self, row: &mut RowVisitor<'_>) -> Result<bool> {
        let (key, value) = self.data.entry().expect("data stands at a row");
        let header = version::header(key, value)?;
        if header.ts <= self.ts {
            if header.tombstone {
                self.skipped += 1;
                return Ok(true);
            }
            return Ok(row(key, &value[HEADER_LEN..], header.ts));
        }
        if self.history.is_none() {
            self.history = Some(self.open_history()?);
        }
        let history = self.history.as_mut().expect("opened above");
        version::put_history_key(&mut self.scratch, key, self.ts);
        history.seek(&self.scratch);
        match PastVersion::at(&**history, key)? {
            Some(past) if past.superseded_at > self.ts => Ok(row(key, past.payload, past.ts)),
            _ => {
                self.skipped += 1;
                Ok(true)
            }
        }
    }

    fn open_history(&self) -> Result<Box<dyn EngineIter + Send + 'a>> {
        let iter = self.engine.iter(Cf::History, &self.start, &physical_end(&self.end))?;
        check_gc(self.engine, self.ts)?;
        Ok(iter)
    }

    /// [`Scanner::for_each`] below the tombstone threshold.
    fn for_each_merged(&mut self, row: &mut RowVisitor<'_>) -> Result<bool> {
        loop {
            let more = match self.next_side()? {
                Side::End => return Ok(true),
                Side::Data => {
                    let more = self.show_data_row(row)?;
                    if self.reverse {
                        self.data.prev();
                    } else {
                        self.data.next();
                    }
                    more
                }
                Side::Forgotten => {
                    let forgotten = self.forgotten.as_mut().expect("merging");
                    forgotten.iter.seek(&version::history_key(&forgotten.key, self.ts));
                    let more = match PastVersion::at(&*forgotten.iter, &forgotten.key)? {
                        Some(past) if past.superseded_at > self.ts => {
                            row(&forgotten.key, past.payload, past.ts)
                        }
                        _ => {
                            self.skipped += 1;
                            true
                        }
                    };
                    forgotten.pass(&self.start, &self.end, self.reverse)?;
                    more
                }
            };
            if !more {
                return Ok(false);
            }
        }
    }

    /// Which side has the next key; where both have it, `data` decides and `history` moves on.
    fn next_side(&mut self) -> Result<Side> {
        let forgotten = self.forgotten.as_mut().expect("merging");
        if !self.data.valid() {
            self.data.status()?;
            return Ok(if forgotten.at_end { Side::End } else { Side::Forgotten });
        }
        if forgotten.at_end {
            return Ok(Side::Data);
        }
        let mut order = self.data.key().cmp(&forgotten.key[..]);
        if self.reverse {
            order = order.reverse();
        }
        if order.is_eq() {
            forgotten.pass(&self.start, &self.end, self.reverse)?;
        }
        Ok(if order.is_gt() { Side::Forgotten } else { Side::Data })
    }
}

impl Forgotten<'_> {
    /// Moves to the next user key in order.
    fn pass(&mut self, start: &[u8], end: &[u8], reverse: bool) -> Result<()> {
        if reverse {
            // Every entry of a key is longer than the key itself, which has none of this length.
            self.iter.seek_for_prev(&self.key);
        } else {
            // Above the oldest entry that the key can have, below every other key's.
            self.iter.seek(&version::history_key(&self.key, Timestamp::ZERO));
        }
        self.settle(start, end, reverse)
    }

    /// Takes up the user key that the iterator stands at, passing those outside the span: entries
    /// of a bound's predecessor lie behind the bound.
    fn settle(&mut self, start: &[u8], end: &[u8], reverse: bool) -> Result<()> {
        while self.iter.valid() {
            let (key, _) = version::parse_history_key(self.iter.key())?;
            if in_span(key, start, end) {
                self.key.clear();
                self.key.extend_from_slice(key);
                return Ok(());
            }
            if reverse {
                self.iter.prev();
            } else {
                self.iter.next();
            }
        }
        self.iter.status()?;
        self.at_end = true;
        Ok(())
    }
}
