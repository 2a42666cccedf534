//! The outside contract: what others script against. Flags, environment, file, exit codes, messages,
//! metric names, and a demo that leaves nothing behind. Runs the binary as a user does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use slotway::telemetry::names::{Kind, METRICS};

const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with nothing of this process' own configuration.
fn slotway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotway"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLOTWAY_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    outcome(slotway(args).output().unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Kills what it holds when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Status line, headers and body.
fn http(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn bad_usage_ends_with_2_and_help_with_0() {
    for args in [&[][..], &["nonsense"], &["serve", "--nonsense"], &["check", "--set", "x"], &["check"]] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, stdout), (0, format!("slotway {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = run(&["--help"]);
    for subcommand in ["serve", "check", "topology", "commands", "demo"] {
        assert!(code == 0 && stdout.contains(&format!("\n  {subcommand} ")), "{subcommand}: {stdout}");
    }
}

#[test]
fn a_bad_config_names_the_key_the_line_and_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    fs::write(&file, "seeds = [\"a\"]\n\nconnect-timeout = 5\nworker = 3\n").unwrap();
    let path = file.to_str().unwrap();
    for command in ["check", "serve"] {
        let (code, stdout, stderr) = run(&[command, "--config", path]);
        assert_eq!((code, stdout.as_str()), (2, ""));
        let place = format!("slotway: {path} line 3: key `connect-timeout`: expected a duration with a unit");
        assert!(stderr.contains(&place), "{stderr}");
        assert!(stderr.contains("line 4: unknown key `worker`: did you mean `workers`?"), "{stderr}");
    }
    let (code, _, stderr) = run(&["check", "--config", "/does/not/exist"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("cannot read /does/not/exist"), "{stderr}");
}

#[test]
fn check_shows_every_value_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slotway.toml");
    let secret = dir.path().join("password");
    fs::write(&secret, "hunter2\n").unwrap();
    fs::write(&file, format!("seeds = [\"file:1\"]\nworkers = 1\nclient-password-file = {secret:?}\n"))
        .unwrap();
    let mut command = slotway(&["check", "--seed", "a:1", "--seed", "[::1]", "--set", "max-clients=7"]);
    command.env("SLOTWAY_CONFIG", &file).env("SLOTWAY_WORKERS", "2").env("SLOTWAY_MAX_CLIENTS", "3");
    command.env("SLOTWAY_PORT", "tcp://10.0.0.1:6379").env("SLOTWAY_SERVICE_HOST", "10.0.0.1");
    let (code, stdout, stderr) = outcome(command.output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let line = |key: &str| {
        let found = stdout
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("{key}"));
        let (value, origin) = found.split_once("  # ").unwrap();
        (value.trim().to_owned(), origin.to_owned())
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(line("seeds"), is("seeds = [\"a:1\", \"[::1]:6379\"]", "--seed"));
    assert_eq!(line("workers"), is("workers = 2", "environment SLOTWAY_WORKERS"));
    assert_eq!(line("max-clients"), is("max-clients = 7", "--set"));
    assert_eq!(line("connect-timeout"), is("connect-timeout = \"1s\"", "default"));
    assert_eq!(
        line("client-password"),
        is("client-password = \"***\"", &format!("contents of {}", secret.display()))
    );
    assert_eq!(line("client-password-file").1, format!("{} line 3", file.display()));
    assert!(!stdout.contains("hunter2"));
    for key in slotway::config::KEYS {
        let shown = |line: &str| {
            line.starts_with(&format!("{} = ", key.name)) || line.starts_with(&format!("# {} is", key.name))
        };
        assert!(stdout.lines().any(shown), "{}", key.name);
    }
    fs::remove_file(&secret).unwrap();
    let (code, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(stderr.contains("key `client-password-file`: cannot read "), "{stderr}");
}

#[test]
fn an_unknown_variable_is_warned_about() {
    let (code, _, stderr) =
        outcome(slotway(&["check", "--seed", "a"]).env("SLOTWAY_WORKER", "1").output().unwrap());
    assert_eq!(
        (code, stderr.as_str()),
        (0, "slotway: warning: environment SLOTWAY_WORKER: no key has that name; it is ignored\n")
    );
}

#[test]
fn a_taken_port_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listen, admin) = (taken.local_addr().unwrap().to_string(), free_address().to_string());
    for (listen, admin) in [(&listen, &admin), (&admin, &listen)] {
        let (code, _, stderr) =
            run(&["serve", "--seed", "127.0.0.1:1", "--listen", listen, "--admin-listen", admin]);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&taken.local_addr().unwrap().to_string()), "{stderr}");
    }
}

/// Starts with a seed nobody answers at: alive, not ready, and everything but the cluster works.
fn lonely_proxy() -> (Running, SocketAddr, SocketAddr) {
    let (listen, admin) = (free_address(), free_address());
    let (l, a) = (listen.to_string(), admin.to_string());
    let args = [
        "serve",
        "--seed",
        "127.0.0.1:1",
        "--listen",
        &l,
        "--admin-listen",
        &a,
        "--workers",
        "2",
        "--log-format",
        "json",
    ];
    let mut running = Running(slotway(&args).stderr(Stdio::null()).spawn().unwrap());
    eventually("the admin port answers", || {
        assert_eq!(running.0.try_wait().unwrap(), None, "it ended");
        http(admin, "/livez")
    });
    (running, listen, admin)
}

#[test]
fn metrics_are_exactly_those_of_the_table() {
    let (_running, listen, admin) = lonely_proxy();
    let mut client = TcpStream::connect(listen).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    client.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
    // Workers publish about once a second.
    let text = eventually("the PING is counted", || {
        http(admin, "/metrics").filter(|text| text.contains("slotway_commands_total{command=\"ping\"} 1\n"))
    });
    let families = |pairs: Vec<(String, String)>| pairs.into_iter().collect::<BTreeSet<_>>();
    let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let shown = families(shown.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect());
    let listed = families(METRICS.iter().map(|m| (m.name.to_owned(), m.kind.text().to_owned())).collect());
    assert_eq!(shown, listed);
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
        assert!(
            metric.name.starts_with("slotway_") || metric.name.starts_with("process_"),
            "{}",
            metric.name
        );
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
    }
    // Every sample belongs to a family and has only the labels of the table.
    for line in text.lines().filter(|line| line.starts_with("slotway_") || line.starts_with("process_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of = |m: &&slotway::telemetry::names::Metric| {
            name == m.name
                || (m.kind == Kind::Histogram
                    && ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(m.name)))
        };
        let metric = METRICS.iter().find(of).unwrap_or_else(|| panic!("no family: {line}"));
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let label = label.split('=').next().unwrap();
            assert!(metric.labels.contains(&label) || label == "le", "{line}");
        }
    }
}

#[test]
fn without_a_cluster_it_is_live_and_not_ready() {
    let (mut running, _, admin) = lonely_proxy();
    assert!(http(admin, "/livez").unwrap().starts_with("HTTP/1.1 200 "));
    let ready = http(admin, "/readyz?verbose").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("[-] "), "{ready}");
    let topology = http(admin, "/topology").unwrap();
    let body = topology.split_once("\r\n\r\n").unwrap().1;
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{topology}");
    let config = http(admin, "/config").unwrap();
    assert!(config.contains("seeds = [\"127.0.0.1:1\"]"), "{config}");
    signal(running.0.id(), "TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_command_table_is_printed() {
    let (code, text, _) = run(&["commands"]);
    assert!(code == 0 && text.contains("mget"), "{text}");
    let (code, json, _) = run(&["commands", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(code == 0 && rows.as_array().unwrap().len() > 200);
    let (code, _, stderr) = run(&["commands", "--from", "127.0.0.1:1"]);
    assert!(code == 1 && !stderr.is_empty());
    let (code, _, stderr) = run(&["topology", "--seed", "127.0.0.1:1"]);
    assert!(code == 1 && stderr.contains("127.0.0.1:1"), "{stderr}");
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Folder and servers of a demo, from the arguments of its supervisor's children.
fn demo_leftovers(demo: u32) -> (Vec<u32>, Vec<String>) {
    let below = |parent: u32| -> Vec<u32> {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    let supervisors = below(demo);
    let servers: Vec<u32> = supervisors.iter().flat_map(|&shell| below(shell)).collect();
    let folders = supervisors.iter().filter_map(|shell| {
        let line = fs::read_to_string(format!("/proc/{shell}/cmdline")).ok()?;
        line.split('\0').find(|arg| arg.contains("slotway-demo-")).map(str::to_owned)
    });
    let folders = folders.collect();
    (supervisors.into_iter().chain(servers).collect(), folders)
}

#[test]
fn the_demo_works_and_leaves_nothing_behind() {
    let present = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("redis-server").is_file()));
    if !present {
        assert!(std::env::var_os("REQUIRE_REDIS").is_none(), "redis-server is not on PATH");
        eprintln!("\n*** SKIPPED, NOT PROVEN: redis-server is not on PATH ***\n");
        return;
    }
    for (name, code) in [("INT", Some(0)), ("TERM", Some(0)), ("KILL", None)] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap().to_string();
        let mut command =
            slotway(&["demo", "--listen", &listen, "--admin-listen", &free_address().to_string()]);
        let mut demo = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut shown = Vec::new();
        while !shown.last().is_some_and(|line: &String| line.starts_with("Ctrl-C")) {
            shown.push(lines.next().unwrap_or_else(|| panic!("the demo ended: {shown:?}")));
        }
        assert!(
            shown.iter().any(|line| line.starts_with(&format!("demo: {listen} is in use, taking "))),
            "{shown:?}"
        );
        try_commands(&shown);
        let (pids, folders) = demo_leftovers(demo.0.id());
        assert_eq!((pids.len(), folders.len()), (7, 1));
        signal(demo.0.id(), name);
        assert_eq!(demo.0.wait().unwrap().code(), code, "{name}");
        eventually("the servers are gone", || {
            (!pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())).then_some(())
        });
        eventually("the folder is gone", || (!Path::new(&folders[0]).exists()).then_some(()));
    }
}

/// Types what the demo printed, but for the load, the kill and the endless watch.
fn try_commands(shown: &[String]) {
    let mut tried = 0;
    for line in shown.iter().filter_map(|line| line.strip_prefix("  ")) {
        if ["redis-cli", "curl"].iter().any(|program| line.starts_with(program)) {
            let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
            let (code, stdout, stderr) = outcome(output);
            let missing = code == 127;
            assert!(missing || (code == 0 && !stdout.starts_with("ERR")), "{line}: {code} {stdout} {stderr}");
            tried += 1;
        }
    }
    assert!(tried >= 8, "{shown:?}");
}
