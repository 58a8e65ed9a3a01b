//! What a transaction has read and must find unchanged when its timestamp moves.
//!
//! Points are kept in one arena, with the stamp their slot had when they were read: an equal stamp
//! later means that nothing was written, without a look at the engine. Spans that touch are merged,
//! so a scan in many chunks is one span. Points beyond some ten thousands are merged into spans,
//! which may find changes in between that were never read, but stays bounded.

use bytes::Bytes;

use crate::leaseholder::slot::{KeyHash, Stamp};

/// Points kept one by one.
const MAX_POINTS: usize = 32_768;

/// Spans that so many points become.
const SPANS_OF_POINTS: usize = 256;

/// Spans beyond which neighbours are merged.
const MAX_SPANS: usize = 4_096;

/// A key that was read.
pub struct PointRead<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its hash.
    pub hash: KeyHash,
    /// Its slot's stamp before the read: while the slot still has it, the key has no version that
    /// the read did not see.
    pub stamp: Stamp,
}

struct Point {
    offset: usize,
    len: u32,
    stamp: Stamp,
    hash: KeyHash,
}

/// The keys and spans read.
#[derive(Default)]
pub struct ReadSet {
    arena: Vec<u8>,
    points: Vec<Point>,
    /// `[start, end)`; an empty end is no bound.
    spans: Vec<(Bytes, Bytes)>,
}

impl ReadSet {
    /// A key was read.
    pub fn add_point(&mut self, key: &[u8], hash: KeyHash, stamp: Stamp) {
        if let Some(last) = self.points.last()
            && last.hash == hash
            && self.key(last) == key
        {
            return;
        }
        if self.points.len() >= MAX_POINTS {
            self.points_to_spans();
        }
        let offset = self.arena.len();
        self.arena.extend_from_slice(key);
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        self.points.push(Point { offset, len, stamp, hash });
    }

    /// `[start, end)` was read.
    pub fn add_span(&mut self, start: &[u8], end: &[u8]) {
        if !end.is_empty() && start >= end {
            return;
        }
        if let Some((last_start, last_end)) = self.spans.last_mut() {
            // Chunks of a scan, ascending or descending, and repeated scans.
            let reaches = last_end.is_empty() || last_end.as_ref() >= start;
            if last_start.as_ref() <= start && reaches {
                if !last_end.is_empty() && (end.is_empty() || last_end.as_ref() < end) {
                    *last_end = Bytes::copy_from_slice(end);
                }
                return;
            }
            if start < last_start.as_ref() && !end.is_empty() && end == last_start.as_ref() {
                *last_start = Bytes::copy_from_slice(start);
                return;
            }
        }
        self.spans.push((Bytes::copy_from_slice(start), Bytes::copy_from_slice(end)));
        if self.spans.len() > MAX_SPANS {
            self.merge_spans();
        }
    }

    /// Adds everything `other` has, and empties it.
    pub fn append(&mut self, other: &mut ReadSet) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        for point in &other.points {
            self.add_point(other.key(point), point.hash, point.stamp);
        }
        for (start, end) in &other.spans {
            self.add_span(start, end);
        }
        other.clear();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.points.clear();
        self.spans.clear();
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.spans.is_empty()
    }

    /// The number of points.
    pub fn point_count(&self) -> usize {
        self.points.len()
    }

    /// The point at `index`.
    pub fn point(&self, index: usize) -> PointRead<'_> {
        let point = &self.points[index];
        PointRead { key: self.key(point), hash: point.hash, stamp: point.stamp }
    }

    /// A point was read again, later.
    pub fn restamp(&mut self, index: usize, stamp: Stamp) {
        self.points[index].stamp = stamp;
    }

    /// The spans.
    pub fn spans(&self) -> &[(Bytes, Bytes)] {
        &self.spans
    }

    fn key(&self, point: &Point) -> &[u8] {
        &self.arena[point.offset..point.offset + point.len as usize]
    }

    /// Replaces the points by few spans that cover them.
    fn points_to_spans(&mut self) {
        let mut points = std::mem::take(&mut self.points);
        points.sort_by(|a, b| self.key(a).cmp(self.key(b)));
        for group in points.chunks(MAX_POINTS / SPANS_OF_POINTS) {
            let [first, .., last] = group else { unreachable!("groups of many") };
            let start = Bytes::copy_from_slice(self.key(first));
            let mut end = self.key(last).to_vec();
            end.push(0);
            self.spans.push((start, Bytes::from(end)));
        }
        self.arena.clear();
        self.merge_spans();
    }

    /// Sorts the spans and merges those that overlap, and neighbours while there are too many.
    fn merge_spans(&mut self) {
        let mut spans = std::mem::take(&mut self.spans);
        spans.sort_unstable();
        let overlapping = |end: &Bytes, start: &Bytes| end.is_empty() || end >= start;
        for (start, end) in spans {
            match self.spans.last_mut() {
                Some((_, last_end)) if overlapping(last_end, &start) => extend(last_end, end),
                _ => self.spans.push((start, end)),
            }
        }
        if self.spans.len() > MAX_SPANS / 2 {
            let pairs = std::mem::take(&mut self.spans);
            for (position, (start, end)) in pairs.into_iter().enumerate() {
                match self.spans.last_mut() {
                    Some((_, last_end)) if position % 4 != 0 => extend(last_end, end),
                    _ => self.spans.push((start, end)),
                }
            }
        }
    }
}

fn extend(last_end: &mut Bytes, end: Bytes) {
    if !last_end.is_empty() && (end.is_empty() || *last_end < end) {
        *last_end = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(set: &ReadSet, key: &[u8]) -> bool {
        (0..set.point_count()).any(|index| set.point(index).key == key)
            || set
                .spans()
                .iter()
                .any(|(start, end)| start.as_ref() <= key && (end.is_empty() || key < end.as_ref()))
    }

    #[test]
    fn chunks_of_a_scan_are_one_span() {
        let mut set = ReadSet::default();
        set.add_span(b"a", b"c");
        set.add_span(b"c", b"f");
        set.add_span(b"f", b"");
        assert_eq!(set.spans(), [(Bytes::from_static(b"a"), Bytes::new())]);
        let mut set = ReadSet::default();
        set.add_span(b"m", b"z");
        set.add_span(b"f", b"m");
        set.add_span(b"a", b"f");
        assert_eq!(set.spans(), [(Bytes::from_static(b"a"), Bytes::from_static(b"z"))]);
    }

    #[test]
    fn many_points_and_spans_stay_bounded_and_covered() {
        let mut set = ReadSet::default();
        let key = |number: u32| number.wrapping_mul(2_654_435_761).to_be_bytes();
        for number in 0..100_000_u32 {
            set.add_point(&key(number), KeyHash::of(&key(number)), Stamp(0));
        }
        assert!(set.point_count() <= MAX_POINTS);
        assert!((0..100_000).step_by(997).all(|number| covers(&set, &key(number))));
        for number in (0..40_000_u32).step_by(2) {
            set.add_span(&number.to_be_bytes(), &(number + 1).to_be_bytes());
        }
        assert!(set.spans().len() <= MAX_SPANS);
        assert!((0..40_000_u32).step_by(2).all(|number| covers(&set, &number.to_be_bytes())));
    }

    proptest! {
        /// Whatever is added, in whatever order and split over two sets, stays covered, and few spans
        /// cover nothing else.
        #[test]
        fn covers_what_was_read(
            spans in prop::collection::vec((0_u8..40, 0_u8..42), 0..20),
            split in 0_usize..20,
        ) {
            let mut first = ReadSet::default();
            let mut second = ReadSet::default();
            let mut model = [false; 40];
            for (index, (start, end)) in spans.iter().enumerate() {
                let set = if index < split { &mut first } else { &mut second };
                let upper = if *end == 41 { vec![] } else { vec![*end] };
                set.add_span(&[*start], &upper);
                for number in *start..(*end).min(40) {
                    model[usize::from(number)] = true;
                }
            }
            first.append(&mut second);
            for number in 0..40_u8 {
                prop_assert_eq!(covers(&first, &[number]), model[usize::from(number)]);
            }
        }
    }
}
