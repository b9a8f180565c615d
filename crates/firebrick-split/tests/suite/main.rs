//! The crate from outside: bad input, the command, processes and their ledger, random bytes.

mod bad_input;
mod command;
mod fuzz;
mod ledger_processes;
