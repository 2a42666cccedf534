//! What is learned is shown where commands are shown, follows the cluster, and is counted within bounds.

use super::announce::{Announced, Told, announcing, first, learned, questions, spec};
use crate::support::client::words;
use crate::support::node::{Answer, FakeCluster};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{check, eventually};

fn documented() -> (FakeCluster, Told, Proxy) {
    let commands = [
        Announced::new("Mod.Set", "write denyoom module").arity(-3).acl("@write").key(first()).range(1, 1, 1),
        Announced::new("mod.box", "").arity(-2).sub(
            Announced::new("mod.box|open", "readonly").arity(3).key(spec(
                "index 2",
                "range 0 1 0",
                "RO access",
            )),
        ),
        Announced::new("mod.bad", "admin"),
    ];
    let docs = |name: &str| {
        let fields =
            ["summary", "Sets.", "group", "module", "module", "mod"].map(|word| bulk(word.as_bytes()));
        [bulk(name.as_bytes()), b"*6\r\n".to_vec(), fields.concat()].concat()
    };
    let (fake, told) = announcing(&commands, move |seen| match seen.arg(1).as_str() {
        "DOCS" => Answer::Reply([b"*2\r\n".to_vec(), docs("Mod.Set")].concat()),
        "GETKEYS" => Answer::Reply([b"*1\r\n".to_vec(), bulk(b"from-the-node")].concat()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("refresh-interval", "200ms")]);
    (fake, told, proxy)
}

#[test]
fn command_shows_learned_commands_as_the_node_does() {
    let (fake, _told, proxy) = documented();
    let plain = Proxy::start(fake.addrs(), &[("learned-commands-max", "0")]);
    let (mut client, mut without) = (proxy.client(), plain.client());
    let announced = |name: &str| {
        let mut node = crate::support::client::Client::connect(fake.addrs()[0]);
        let all = node.call(&words("COMMAND"));
        all.items().iter().find(|entry| entry.items()[0].text() == name).cloned().expect("the entry")
    };
    assert_eq!(client.call(&words("COMMAND INFO mod.set")).items()[0], announced("Mod.Set"));
    assert_eq!(client.call(&words("COMMAND INFO MOD.BOX")).items()[0], announced("mod.box"));
    let open = client.call(&words("COMMAND INFO mod.box|open"));
    assert_eq!(open.items()[0].items()[0].text(), "mod.box|open");
    assert_eq!(client.call(&words("COMMAND COUNT")).int(), without.call(&words("COMMAND COUNT")).int() + 3);
    assert_eq!(
        client.call(&words("COMMAND")).items().len() as i64,
        client.call(&words("COMMAND COUNT")).int()
    );
    let names = |value: Value| value.items().iter().map(Value::text).collect::<Vec<_>>();
    let listed = names(client.call(&words("COMMAND LIST FILTERBY PATTERN mod.*")));
    assert_eq!(listed, ["mod.bad", "mod.box", "mod.box|open", "Mod.Set"]);
    assert_eq!(names(client.call(&words("COMMAND LIST FILTERBY MODULE mod"))), ["Mod.Set"]);
    let docs = client.call(&words("COMMAND DOCS mod.set mod.bad"));
    assert_eq!(docs.items().len(), 2, "{docs:?}");
    assert_eq!(names(docs.items()[1].clone()), ["summary", "Sets.", "group", "module", "module", "mod"]);
    assert_eq!(names(client.call(&words("COMMAND GETKEYS mod.set k v"))), ["from-the-node"]);
    assert_eq!(show(&questions(&fake)[0].bytes), show(&words("COMMAND GETKEYS mod.set k v")));
    assert_eq!(client.call(&words("COMMAND GETKEYS no.such x")).error(), "ERR Invalid command specified");
    client.ok(&words("mod.set k v"));
    let list = client.call(&words("CLIENT LIST")).text();
    assert!(list.contains("cmd=client|list"), "{list}");
    assert_eq!(
        client.call(&words("MOD.BOX open")).error(),
        "ERR wrong number of arguments for 'mod.box|open' command"
    );
    assert_eq!(
        client.call(&words("MOD.BOX shut x")).error(),
        "ERR unknown subcommand 'shut'. Try MOD.BOX HELP."
    );
    assert_eq!(client.call(&words("MOD.BOX")).error(), "ERR wrong number of arguments for 'mod.box' command");
    assert_eq!(client.call(&words("mod.box OPEN k")), Value::Simple("OK".into()));
}

#[test]
fn learned_commands_are_counted_together_and_shown_at_the_admin_port() {
    let (_fake, _told, proxy) = documented();
    let mut client = proxy.client();
    for line in ["mod.set k v", "mod.box open k", "mod.bad"] {
        client.call(&words(line));
    }
    proxy.wait_metric("slotway_commands_total", &["command=\"(learned)\""], |count| count == 3.0);
    let (_, metrics) = proxy.admin("/metrics");
    assert!(!metrics.contains("mod."), "no label from the cluster");
    assert_eq!(proxy.metrics().sum("slotway_learned_commands", &[]), 4.0);
    let topology: serde_json::Value = serde_json::from_str(&proxy.admin("/topology").1).expect("JSON");
    assert_eq!(topology["learned_commands"], 4);
    assert!(proxy.admin("/readyz?verbose").1.contains("commands"));
}

#[test]
fn the_table_follows_the_cluster_without_a_restart() {
    let one = || Announced::new("one", "write").key(first());
    let (fake, told, proxy) = learned(&[one()]);
    let mut client = proxy.client();
    client.ok(&words("one k"));
    let wait = |client: &mut crate::support::client::Client, line: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(line, || {
            let reply = client.call(&words(line));
            check(holds(&reply), reply)
        });
    };
    let unknown =
        |value: &Value| matches!(value, Value::Error(text) if text.starts_with("ERR unknown command"));
    told.commands(&[one(), Announced::new("two", "readonly")]);
    wait(&mut client, "two", &|value| *value == Value::Simple("OK".into()));
    client.ok(&words("one k"));
    told.commands(&[Announced::new("one", "admin"), Announced::new("two", "readonly")]);
    wait(
        &mut client,
        "one k",
        &|value| matches!(value, Value::Error(text) if text.contains("administration")),
    );
    told.commands(&[Announced::new("two", "readonly")]);
    wait(&mut client, "one k", &unknown);
    // Back again: the definition of before.
    told.commands(&[one()]);
    wait(&mut client, "one k", &|value| *value == Value::Simple("OK".into()));
    wait(&mut client, "two", &unknown);
    let asked =
        |fake: &FakeCluster| fake.seen_named("COMMAND").iter().filter(|seen| seen.args.len() == 1).count();
    let (before, rounds) = (asked(&fake), fake.seen_named("CLUSTER").len());
    eventually("ten more rounds", || check(fake.seen_named("CLUSTER").len() > rounds + 90, ()));
    assert_eq!(asked(&fake), before, "COMMAND is read when something changed, not at every refresh");
}

#[test]
fn nodes_that_differ_are_merged_and_the_majority_counts() {
    let (fake, _told) = announcing(&[], |_| Answer::Standard);
    let reply = |commands: &[Announced]| {
        let each: Vec<Vec<u8>> = commands.iter().map(Announced::encode).collect();
        [format!("*{}\r\n", each.len()).into_bytes(), each.concat()].concat()
    };
    let most = reply(&[Announced::new("both", "readonly"), Announced::new("most", "readonly")]);
    let few = reply(&[Announced::new("both", "admin"), Announced::new("few", "readonly")]);
    fake.script(move |seen| match (seen.name().as_str(), seen.args.len(), seen.node) {
        ("COMMAND", 1, 2) => Answer::Reply(few.clone()),
        ("COMMAND", 1, _) => Answer::Reply(most.clone()),
        ("COMMAND", 2, node) => Answer::Reply(format!(":{}\r\n", 200 + node / 2).into_bytes()),
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[("refresh-interval", "200ms")]);
    proxy.wait_metric("slotway_learned_commands", &[], |count| count == 3.0);
    let mut client = proxy.client();
    for line in ["both", "most", "few"] {
        assert_eq!(client.call(&words(line)), Value::Simple("OK".into()), "{line}");
    }
}
