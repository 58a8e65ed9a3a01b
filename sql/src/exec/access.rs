//! From an access path to keys: which span of an index a scan visits.

use bytes::Bytes;
use cairn_kv::encoding;

use crate::Result;
use crate::expr::{EvalContext, Program};
use crate::plan::physical::Access;
use crate::storage::entry::{IndexLayout, TableLayout};
use crate::storage::key;
use crate::types::Datum;

/// A compiled access path.
pub struct AccessPlan {
    /// Position in the table's indexes.
    pub index: usize,
    prefix: Vec<Program>,
    lower: Option<(Program, bool)>,
    upper: Option<(Program, bool)>,
    /// Descending.
    pub reverse: bool,
    /// At most one row.
    pub unique: bool,
}

/// The keys `[start, end)` of an index.
pub struct Span {
    /// First key.
    pub start: Bytes,
    /// First key behind it.
    pub end: Bytes,
}

impl AccessPlan {
    /// Compiles an access path.
    pub fn new(access: &Access) -> Result<AccessPlan> {
        let bound = |b: &Option<(crate::expr::Scalar, bool)>| -> Result<Option<(Program, bool)>> {
            b.as_ref().map(|(scalar, inclusive)| Ok((Program::compile(scalar)?, *inclusive))).transpose()
        };
        Ok(AccessPlan {
            index: access.index,
            prefix: Program::compile_all(&access.prefix)?,
            lower: bound(&access.lower)?,
            upper: bound(&access.upper)?,
            reverse: access.reverse,
            unique: access.unique,
        })
    }

    /// The key that equality on all columns of a unique index fixes: the whole key of the one entry
    /// without NULLs. `None`: a value is NULL, so nothing matches.
    pub fn point(
        &self,
        layout: &TableLayout,
        eval: &EvalContext,
        row: &[Datum],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let index = &layout.indexes[self.index];
        out.extend_from_slice(&index.prefix);
        self.put_prefix(index, eval, row, out)
    }

    fn put_prefix(
        &self,
        index: &IndexLayout,
        eval: &EvalContext,
        row: &[Datum],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        for (program, c) in self.prefix.iter().zip(&index.columns) {
            let value = program.eval_row_ref(eval, row)?;
            if value.is_null() {
                return Ok(false);
            }
            key::put_datum(out, &value, c.kind, c.descending, c.nulls_first);
        }
        Ok(true)
    }

    /// The span of keys for one set of values; `None`: nothing can match.
    pub fn span(&self, layout: &TableLayout, eval: &EvalContext, row: &[Datum]) -> Result<Option<Span>> {
        let index = &layout.indexes[self.index];
        let mut base = index.prefix.to_vec();
        if !self.put_prefix(index, eval, row, &mut base)? {
            return Ok(None);
        }
        if self.lower.is_none() && self.upper.is_none() {
            let end = encoding::prefix_end(&base);
            return Ok(Some(Span { start: base.into(), end: end.into() }));
        }
        let column = index.columns[self.prefix.len()];
        let element = |value: &Datum| -> Result<Vec<u8>> {
            let mut key = base.clone();
            key::put_datum(&mut key, value, column.kind, column.descending, column.nulls_first);
            Ok(key)
        };
        // Bounds in the order of the keys: descending columns have them exchanged.
        let (first, last) = match column.descending {
            false => (&self.lower, &self.upper),
            true => (&self.upper, &self.lower),
        };
        // A comparison is never true for NULL, so an open end stops at the NULLs.
        let start = match first {
            Some((program, inclusive)) => {
                let value = program.eval_row_ref(eval, row)?;
                if value.is_null() {
                    return Ok(None);
                }
                let key = element(&value)?;
                if *inclusive { key } else { encoding::prefix_end(&key) }
            }
            None if column.nulls_first => encoding::prefix_end(&element(&Datum::Null)?),
            None => base.clone(),
        };
        let end = match last {
            Some((program, inclusive)) => {
                let value = program.eval_row_ref(eval, row)?;
                if value.is_null() {
                    return Ok(None);
                }
                let key = element(&value)?;
                if *inclusive { encoding::prefix_end(&key) } else { key }
            }
            None if column.nulls_first => encoding::prefix_end(&base),
            None => element(&Datum::Null)?,
        };
        if start >= end {
            return Ok(None);
        }
        Ok(Some(Span { start: start.into(), end: end.into() }))
    }
}
