//! Every command that is not refused reaches the owner of its keys; refusals say why.

use std::collections::BTreeSet;
use std::process::Command;

use super::forms::forms;
use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::slot;
use crate::support::node::FakeCluster;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, frame, show};
use crate::support::shared;

fn request(args: &[Vec<u8>]) -> Vec<u8> {
    frame(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Spreads the lines over all slots.
fn spread(line: usize) -> u16 {
    (line * 997 % 16384) as u16
}

#[test]
fn every_form_is_one_the_real_server_accepts() {
    need_redis!();
    let mut real = shared::standalone().client();
    for form in forms(spread) {
        if let Value::Error(text) = real.call(&request(&form.args)) {
            let bad = ["wrong number", "syntax", "unknown", "Unknown", "not an integer"]
                .iter()
                .any(|p| text.contains(p));
            assert!(!bad, "{}: {text}", form.line);
        }
    }
}

#[test]
fn every_form_reaches_the_owner_of_its_slot_on_a_real_cluster() {
    need_redis!();
    let cluster = RedisCluster::start(3, 0);
    let proxy = Proxy::start(&shared::seeds(&cluster), &[]);
    let mut client = proxy.client();
    for form in forms(spread) {
        let reply = client.call(&request(&form.args));
        if let Value::Error(text) = &reply {
            let wrong =
                ["MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN"].iter().any(|p| text.starts_with(p))
                    || ["slotway", "unknown command", "wrong number"].iter().any(|p| text.contains(p));
            assert!(!wrong, "{}: {text}", form.line);
        }
    }
    for prefix in ["MOVED", "ASK", "CROSSSLOT"] {
        assert_eq!(cluster.errors_sent(prefix), 0, "a request went to a node that does not own its slot");
    }
}

#[test]
fn command_getkeys_answers_what_the_real_server_answers() {
    need_redis!();
    let mut real = shared::standalone().client();
    let mut through = shared::client();
    for form in forms(spread) {
        let mut args = vec![b"COMMAND".to_vec(), b"GETKEYS".to_vec()];
        args.extend(form.args);
        let request = request(&args);
        let (want, got) = (real.raw(&request), through.raw(&request));
        assert_eq!(show(&got), show(&want), "{}", form.line);
    }
}

#[test]
fn fake_nodes_receive_every_form_untouched_at_the_owner() {
    let fake = FakeCluster::start(3);
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    for form in forms(spread) {
        let before = fake.seen().len();
        let reply = client.call(&request(&form.args));
        assert_eq!(reply, Value::Simple("OK".into()), "{}", form.line);
        let seen = fake.seen();
        let arrived: Vec<_> = seen[before..].iter().filter(|s| s.args == form.args).collect();
        assert_eq!(arrived.len(), 1, "{}: {arrived:?}", form.line);
        assert_eq!(show(&arrived[0].bytes), show(&request(&form.args)));
        if let Some(key) = form.keys.first() {
            assert_eq!(arrived[0].node, fake.owner(slot(key)), "{}", form.line);
        }
    }
}

/// The command table as the binary prints it: (name in capitals, handling as JSON text).
fn table() -> Vec<(String, serde_json::Value)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_slotway")).args(["commands", "--json"]).output().expect("slotway");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = json.as_array().expect("an array of commands");
    let name =
        |row: &serde_json::Value| row["name"].as_str().expect("a name").to_uppercase().replace('|', " ");
    rows.iter().map(|row| (name(row), row.clone())).collect()
}

fn handling(row: &serde_json::Value) -> String {
    let handling = &row["handling"];
    handling.as_str().map_or_else(|| handling.to_string(), str::to_owned).to_lowercase()
}

#[test]
fn every_routed_command_of_the_table_has_a_form() {
    let forms: BTreeSet<String> = forms(spread).iter().map(|f| f.line.to_uppercase()).collect();
    let missing: Vec<String> = table()
        .iter()
        .filter(|(_, row)| handling(row).contains("route") || handling(row).contains("split"))
        .map(|(name, _)| name.clone())
        .filter(|name| !forms.iter().any(|f| f == name || f.starts_with(&format!("{name} "))))
        .collect();
    assert!(missing.is_empty(), "no line in forms.rs for {missing:?}");
}

#[test]
fn refused_commands_say_why_and_the_connection_goes_on() {
    need_redis!();
    let mut client = shared::client();
    let table = table();
    let mut refused = 0;
    for (name, row) in &table {
        let has_subcommands = table.iter().any(|(other, _)| other.starts_with(&format!("{name} ")));
        if !handling(row).contains("refuse") || has_subcommands {
            continue;
        }
        refused += 1;
        let arity = row["arity"].as_i64().expect("an arity").unsigned_abs() as usize;
        let mut line = name.clone();
        for _ in name.split(' ').count()..arity {
            line += " 1";
        }
        let reply = client.call(&words(&line));
        let text = reply.error();
        assert_eq!(Some(text), row["error"].as_str(), "{line}");
        assert!(text.contains("slotway") && text.len() > "ERR slotway: ".len() + 10, "{line}: {text}");
    }
    assert!(refused > 20, "only {refused} commands are refused?");
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
}

#[test]
fn unknown_commands_and_wrong_arity_are_answered_as_redis_does() {
    need_redis!();
    let mut real = shared::standalone().client();
    let mut through = shared::client();
    for line in [
        "NOSUCH",
        "nosuch a b c",
        "GET",
        "GET a b",
        "MSET a",
        "MSET a 1 b",
        "MGET",
        "SET a",
        "DEL",
        "PING a b",
    ] {
        let (want, got) = (real.raw(&words(line)), through.raw(&words(line)));
        assert_eq!(show(&got), show(&want), "{line}");
    }
    assert_eq!(through.raw(&words("PING")), real.raw(&words("PING")));
}

#[test]
fn keys_belong_where_the_cluster_says() {
    need_redis!();
    let mut real = shared::cluster().client(0);
    let mut through = shared::client();
    for key in [
        "",
        "a",
        "{}",
        "{}{a}",
        "a{",
        "}{a}",
        "{a}b",
        "x{a}y{b}",
        "{{a}}",
        "{a",
        "foo{}{bar}",
        "foo{{bar}}zap",
    ] {
        let request = cmd!["CLUSTER", "KEYSLOT", key];
        let want = real.raw(&request);
        assert_eq!(show(&through.raw(&request)), show(&want), "{key}");
        assert_eq!(format!(":{}\r\n", slot(key.as_bytes())).into_bytes(), want);
    }
}

#[test]
fn keys_of_any_length_in_any_split_reach_their_owner() {
    need_redis!();
    let cluster = shared::cluster();
    let mut random = fastrand::Rng::with_seed(5);
    let mut client = shared::client();
    for length in [1, 2, 500, 511, 512, 513, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 70000] {
        // The hash tag stands at the very end, where a cut key would lose it.
        let name = shared::unique("long");
        let key = format!("{}{{{name}}}", "k".repeat(length));
        let request = cmd!["SET", key, name];
        let largest = if length < 1000 { 1 } else { 3000 };
        client.send_split(&request, largest, &mut random);
        assert_eq!(client.value(), Value::Simple("OK".into()));
        let owner = cluster.initial_owner(slot(name.as_bytes()));
        let mut direct: Client = cluster.client(owner);
        assert_eq!(direct.call(&cmd!["GET", key]).text(), name);
        assert_eq!(client.call(&cmd!["GET", key]).text(), name);
    }
}
