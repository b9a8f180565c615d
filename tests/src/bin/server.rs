//! A burn server for the tests of the remote back-end: it serves this machine's flex device on the loopback address.
//!
//! `server TOKEN` prints the address that it listens on, opens sessions to whoever brings the token, and serves until it
//! is killed.

use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::Device;
use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

fn main() -> Result<(), Box<dyn Error>> {
    let token = std::env::args().nth(1).ok_or("usage: server TOKEN")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    RemoteServer::new([Device::flex()])
        .with_authorizer(TokenAuthorizer::new(token)?)
        .serve(WebSocketTransport::from_listener(listener))?;
    Ok(())
}
