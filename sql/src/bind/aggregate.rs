//! Grouping: expressions over the FROM row become expressions over groups.

use super::scope::{AGGREGATED, APPLIED, Level};
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;

/// The keys of a grouped query.
pub struct Grouping {
    /// Keys, over the FROM row. Columns that depend on a primary key among them are added.
    pub keys: Vec<Scalar>,
}

impl Grouping {
    /// Rewrites an expression over the FROM row into one over keys and aggregates; the latter stay
    /// virtual until [`Grouping::place`].
    pub fn regroup(&mut self, scalar: &mut Scalar, level: &Level) -> Result<()> {
        if let Some(k) =
            self.keys.iter().position(|key| key.same(scalar) && !matches!(key, Scalar::Const { .. }))
        {
            *scalar = Scalar::Column { index: k, ty: scalar.ty() };
            return Ok(());
        }
        if let Scalar::Column { index, ty } = scalar {
            if *index >= APPLIED {
                return Ok(());
            }
            let k = self.column(*index, level)?;
            *scalar = Scalar::Column { index: k, ty: *ty };
            return Ok(());
        }
        for child in scalar.children_mut() {
            self.regroup(child, level)?;
        }
        Ok(())
    }

    fn column(&mut self, index: usize, level: &Level) -> Result<usize> {
        let is = |key: &Scalar, i: usize| matches!(key, Scalar::Column { index, .. } if *index == i);
        if let Some(k) = self.keys.iter().position(|key| is(key, index)) {
            return Ok(k);
        }
        for relation in &level.scope.relations {
            let Some((table, _)) = &relation.table else { continue };
            let position = relation
                .columns
                .iter()
                .position(|c| matches!(c.value, Scalar::Column { index: i, .. } if i == index));
            let Some(position) = position else { continue };
            let primary = &table.indexes[0];
            let determined = primary.primary_key
                && primary.columns.iter().all(|c| match relation.columns[c.column].value {
                    Scalar::Column { index, .. } => self.keys.iter().any(|key| is(key, index)),
                    _ => false,
                });
            if determined {
                self.keys.push(relation.columns[position].value.clone());
                return Ok(self.keys.len() - 1);
            }
        }
        let named = level.named.iter().rev().find(|(i, _, _)| *i == index);
        let (position, name) = match named {
            Some((_, position, name)) => (Some(*position), name.clone()),
            None => (None, "?column?".into()),
        };
        let error = SqlError::new(
            SqlState::GROUPING_ERROR,
            format!(
                "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
            ),
        );
        Err(match position {
            Some(position) => error.at(position),
            None => error,
        })
    }

    /// Gives aggregates their real positions, behind the keys.
    pub fn place(&self, scalar: &mut Scalar) {
        let keys = self.keys.len();
        scalar.map_columns(&mut |i| if i >= AGGREGATED { i - AGGREGATED + keys } else { i });
    }
}
