//! Reads of many keys in ascending order.

use super::{Cf, Engine, EngineIter};
use crate::Result;

/// Steps of an iterator in a row that found something else than the key asked for, before points are
/// read instead, and how many.
const MISSES: usize = 4;
const POINTS: usize = 256;

/// Looks up ascending keys: where they lie close together, or fall into a gap, by an iterator that
/// moves along; where they are strewn among others, one by one.
pub struct Ascending<'a> {
    engine: &'a dyn Engine,
    cf: Cf,
    bounds: (Vec<u8>, Vec<u8>),
    /// Opened by the first key.
    iter: Option<Box<dyn EngineIter + Send + 'a>>,
    misses: usize,
    points: usize,
}

impl<'a> Ascending<'a> {
    /// For keys from `first` to `last`. What is written to the engine meanwhile may be seen or not.
    pub fn new(engine: &'a dyn Engine, cf: Cf, first: &[u8], last: &[u8]) -> Ascending<'a> {
        let bounds = (first.to_vec(), [last, &[0]].concat());
        // A single key is no reason to open an iterator.
        let points = usize::from(first == last);
        Ascending { engine, cf, bounds, iter: None, misses: 0, points }
    }

    /// Reads `key`, which lies behind the one before: replaces `out` by its value and returns true, or
    /// returns false.
    pub fn get(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        if self.points > 0 {
            self.points -= 1;
            return self.engine.get(self.cf, key, out);
        }
        let iter = match &mut self.iter {
            Some(iter) => {
                if iter.valid() && iter.key() < key {
                    iter.next();
                }
                iter
            }
            None => {
                let iter = self.iter.insert(self.engine.iter(self.cf, &self.bounds.0, &self.bounds.1)?);
                iter.seek_to_first();
                iter
            }
        };
        if iter.valid() && iter.key() < key {
            iter.seek(key);
            self.misses += 1;
            if self.misses == MISSES {
                (self.misses, self.points) = (0, POINTS);
            }
        } else {
            self.misses = 0;
        }
        match iter.entry() {
            Some((found, value)) if found == key => {
                out.clear();
                out.extend_from_slice(value);
                Ok(true)
            }
            Some(_) => Ok(false),
            None => iter.status().map(|()| false),
        }
    }
}
