//! A burn device by name, what it can do, and the host fast path of firebrick.
