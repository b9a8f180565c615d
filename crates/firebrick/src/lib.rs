//! Makes burn models train stably and generalize, and shows that they do.
