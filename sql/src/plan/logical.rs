//! Logical plans (owned by the binder and the optimizer).
