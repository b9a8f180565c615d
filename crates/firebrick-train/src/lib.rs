//! Trains a burn model stably to the end, and resumes it exactly.
