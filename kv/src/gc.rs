//! Garbage collection under thresholds (R3, R4).
