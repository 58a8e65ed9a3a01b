//! UNION ALL.

use cairn_kv::seam::BoxFuture;

use super::{Context, Meters, Operator, Plan, PlanRef};
use crate::Result;
use crate::batch::Batch;

/// Rows of all inputs, one input after the other.
pub struct AppendPlan {
    /// Inputs.
    pub inputs: Vec<PlanRef>,
}

struct Append {
    inputs: std::vec::IntoIter<PlanRef>,
    meters: Meters,
    current: Option<Box<dyn Operator>>,
}

impl Plan for AppendPlan {
    fn open(&self, meters: &Meters) -> Box<dyn Operator> {
        Box::new(Append { inputs: self.inputs.clone().into_iter(), meters: meters.clone(), current: None })
    }
}

impl Operator for Append {
    fn next<'a>(&'a mut self, cx: &'a mut Context<'_>) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            loop {
                if let Some(input) = &mut self.current
                    && let Some(batch) = input.next(cx).await?
                {
                    return Ok(Some(batch));
                }
                match self.inputs.next() {
                    Some(input) => self.current = Some(input.open(&self.meters)),
                    None => return Ok(None),
                }
            }
        })
    }
}
