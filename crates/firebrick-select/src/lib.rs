//! Model selection by cross-validation: which candidate, and how sure.
