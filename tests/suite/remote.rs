//! Devices of burn servers: two processes on the loopback address, and what happens when one dies.

use crate::backends::{HOST_TOLERANCE, distance, train};
use crate::net::{Net, data};
use burn::tensor::Device;
use firebrick::prelude::*;
use firebrick::train::Event;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const TOKEN: &str = "only for this test";

/// A server process, killed when the test is over.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_server"))
            .arg(TOKEN)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut address = String::new();
        let out = process.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut address).expect("the server says where it listens");
        Self { process, address: address.trim().to_owned() }
    }

    fn spec(&self) -> DeviceSpec {
        format!("remote:{}", self.address).parse().expect("an address")
    }

    fn device(&self) -> Device {
        self.spec().with_token(TOKEN).open().expect("the server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn two_servers_give_the_same_bits_and_the_local_device_s_numbers() {
    let (losses, weights) = train(&Device::flex());
    let [first, second] = [Server::start(), Server::start()].map(|server| train(&server.device()));
    assert_eq!(first, second);
    // A remote tensor has no host storage: the optimizer steps by tensor operations, which round otherwise.
    let (loss, weight) = (distance(&first.0, &losses), distance(&first.1, &weights));
    assert!(loss < HOST_TOLERANCE && weight < HOST_TOLERANCE, "{loss:e} {weight:e}");
}

#[test]
fn a_wrong_token_and_a_missing_server_are_errors_of_one_line() {
    let server = Server::start();
    let spec = server.spec();
    let gone = {
        let other = Server::start();
        other.spec().with_token(TOKEN)
    };
    for spec in [spec.clone(), spec.with_token("guess"), gone] {
        let error = spec.open().expect_err("must be refused").to_string();
        assert!(error.starts_with("back-end `remote` cannot be used here: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains(TOKEN), "{error}");
    }
}

/// A server that is killed in the middle ends the training with an error, so that it can be run again elsewhere.
#[test]
fn a_killed_server_ends_the_training_with_an_error() {
    let server = Server::start();
    let device = server.device().autodiff();
    let batches = TensorBatches::new(data(160, &device), 32, Seed(5)).expect("valid");
    let server = Arc::new(Mutex::new(server));
    let victim = Arc::clone(&server);
    let result = Fit::new(
        FitConfig::new(1000).with_progress(false),
        AdamWConfig::new().init().expect("valid"),
    )
    .observe(move |event| {
        if let Event::Step { step: 30, .. } = event {
            victim.lock().expect("not poisoned").process.kill().expect("killed");
        }
        firebrick::train::Flow::Continue
    })
    .run(Net::new(&device), &batches, None);
    let error = result.expect_err("the device is gone");
    assert!(matches!(error, TrainError::Read(_)), "{error}");
    drop(server);
}
