//! What crosses the crates of firebrick: references, back-ends, properties, recipes.
