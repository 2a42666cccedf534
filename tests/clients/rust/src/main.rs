//! redis-rs: its blocking, asynchronous and cluster clients in both RESP versions. One line of output per
//! check, a plan at the end. Must never decide what a proxy may answer.

mod asynchronous;
mod blocking;
mod cluster;

use std::sync::mpsc;
use std::time::Duration;

use redis::{Client, IntoConnectionInfo as _, ProtocolVersion};

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Check = (&'static str, fn(ProtocolVersion) -> Outcome);

const CHECK_TIME: Duration = Duration::from_secs(20);
const VERSIONS: [(&str, ProtocolVersion); 2] =
    [("RESP2", ProtocolVersion::RESP2), ("RESP3", ProtocolVersion::RESP3)];

/// Ends the check unless both are equal.
macro_rules! same {
    ($found:expr, $wanted:expr) => {{
        let (found, wanted) = ($found, $wanted);
        if found != wanted {
            return Err(format!("{}:{}: got {found:?}, wanted {wanted:?}", file!(), line!()).into());
        }
    }};
}
pub(crate) use same;

/// Where to connect, as a URL.
fn url() -> Result<String, std::env::VarError> {
    Ok(format!("redis://{}:{}", std::env::var("REDIS_HOST")?, std::env::var("REDIS_PORT")?))
}

fn client(version: ProtocolVersion) -> Result<Client, Box<dyn std::error::Error>> {
    let info = url()?.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(version);
    Ok(Client::open(info.set_redis_settings(settings))?)
}

/// `group:version:n`, on all shards.
fn names(group: &str, version: ProtocolVersion, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("rs:{group}:{version:?}:{n}")).collect()
}

/// In a thread of its own, which is left behind when it takes too long.
fn run(check: fn(ProtocolVersion) -> Outcome, version: ProtocolVersion) -> Result<(), String> {
    let (sender, result) = mpsc::channel();
    std::thread::spawn(move || sender.send(check(version).map_err(|error| error.to_string())));
    match result.recv_timeout(CHECK_TIME) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("no result within {CHECK_TIME:?}")),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("it panicked".to_owned()),
    }
}

fn main() {
    let only_cluster = std::env::args().any(|word| word == "cluster");
    let checks: Vec<Check> = if only_cluster {
        cluster::CHECKS.to_vec()
    } else {
        [blocking::CHECKS, asynchronous::CHECKS].concat()
    };
    let mut failed = 0;
    for (name, check) in &checks {
        for (label, version) in VERSIONS {
            match run(*check, version) {
                Ok(()) => println!("ok - {name}, {label}"),
                Err(text) => {
                    failed += 1;
                    println!("not ok - {name}, {label}: {}", text.replace('\n', " "));
                }
            }
        }
    }
    println!("1..{}", checks.len() * VERSIONS.len());
    std::process::exit(i32::from(failed > 0));
}
