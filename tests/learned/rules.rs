//! What is done with an announced command: routed by every kind of key specification, or refused by its flags,
//! categories and policy. Seen at the nodes, byte for byte.

use super::announce::{Announced, announcing, arrived, first, learned, questions, spec};
use crate::support::client::words;
use crate::support::keys::slot;
use crate::support::node::Answer;
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};

/// Name, command, a request, its keys in one slot, whether a node has to be asked for them.
fn routed() -> Vec<(Announced, &'static str, &'static str, bool)> {
    let new = |name: &str| Announced::new(name, "write");
    let moving = |name: &str| Announced::new(name, "write movablekeys");
    vec![
        (new("i.one").key(first()), "I.ONE {a}k v", "{a}k", false),
        (new("I.Upper").key(first()), "i.uPPER {b}k v", "{b}k", false),
        (new("i.third").key(spec("index 3", "range 0 1 0", "RO")), "I.THIRD x y {c}k", "{c}k", false),
        (new("i.all").key(spec("index 1", "range -1 1 0", "RO")), "I.ALL {d}1 {d}2 {d}3", "{d}1", false),
        (new("i.pairs").key(spec("index 1", "range -1 2 0", "OW")), "I.PAIRS {e}1 x {e}2 y", "{e}1", false),
        (moving("i.half").key(spec("index 1", "range -1 1 2", "RO")), "I.HALF {f}1 {f}2 x y", "{f}1", false),
        (moving("i.num").key(spec("index 1", "keynum 0 1 1", "RO")), "I.NUM 2 {g}1 {g}2 x", "{g}1", false),
        (moving("i.later").key(spec("index 2", "keynum 0 2 1", "RO")), "I.LATER x 1 y {h}1", "{h}1", false),
        (
            moving("k.one").key(spec("keyword KEY 1", "range 0 1 0", "RO")),
            "K.ONE x key {i}1 y",
            "{i}1",
            false,
        ),
        (
            moving("k.all").key(spec("keyword KEYS 1", "range -1 1 0", "RO")),
            "K.ALL keys {j}1 {j}2",
            "{j}1",
            false,
        ),
        (
            moving("k.num").key(spec("keyword KEYS 1", "keynum 0 1 1", "RO")),
            "K.NUM KEYS 2 {k}1 {k}2 x",
            "{k}1",
            false,
        ),
        (
            moving("k.back").key(spec("keyword KEYS -2", "range -1 1 0", "RO")),
            "K.BACK KEYS x KEYS {l}1",
            "{l}1",
            false,
        ),
        (
            new("i.two").key(spec("index 2", "range 0 1 0", "OW")).key(spec("index 4", "range 0 1 0", "RO")),
            "I.TWO x {m}1 y {m}2",
            "{m}1",
            false,
        ),
        (new("n.key").key(spec("index 1", "range 0 1 0", "not_key")), "N.KEY {n}k", "{n}k", false),
        (new("old.step").key(spec("index 1", "range 0 0 0", "RW")), "OLD.STEP {o}k", "{o}k", false),
        (
            new("multi.shard").key(spec("index 1", "range -1 1 0", "RO")).tips("request_policy:multi_shard"),
            "MULTI.SHARD {p}1 {p}2",
            "{p}1",
            false,
        ),
        // The node has to be asked.
        (new("u.begin").key(spec("unknown", "range 0 1 0", "RO")), "U.BEGIN x {q}k", "{q}k", true),
        (new("u.find").key(spec("index 1", "unknown", "RO")), "U.FIND x {r}k", "{r}k", true),
        (new("u.kw").key(spec("keyword KEY 1", "unknown", "RO")), "U.KW KEY {s}k", "{s}k", true),
        (new("u.some").key(spec("index 1", "range 0 1 0", "RW incomplete")), "U.SOME x {t}k", "{t}k", true),
        (moving("u.api").key(first()), "U.API x {u}k", "{u}k", true),
        (moving("u.none"), "U.NONE x {v}k", "{v}k", true),
        (new("u.minus").key(spec("index -1", "range 0 1 0", "RW")), "U.MINUS x {w}k", "{w}k", true),
        (new("u.huge").key(spec("index 99999999999", "range 0 1 0", "RW")).range(1, 1, 1), "", "", false),
        (new("u.step").key(spec("index 1", "range -1 -1 0", "RW")), "U.STEP x {x}k", "{x}k", true),
        (new("u.range").range(1, 1, 1), "U.RANGE x {y}k", "{y}k", true),
        (new("u.misfit").key(spec("keyword KEY 1", "range 0 1 0", "RO")), "U.MISFIT x {z}k", "{z}k", true),
        ((0..9).fold(new("u.many"), |command, _| command.key(first())), "U.MANY x {aa}k", "{aa}k", true),
    ]
}

#[test]
fn every_kind_of_key_specification_leads_to_the_owner() {
    let all: Vec<Announced> = routed().into_iter().map(|(announced, ..)| announced).collect();
    // A node finds the keys that stand last.
    let (fake, _told) = announcing(&all, |seen| match (seen.name().as_str(), seen.arg(1).as_str()) {
        ("COMMAND", "GETKEYS") => {
            let key = seen.args.last().cloned().unwrap_or_default();
            Answer::Reply([b"*1\r\n".to_vec(), bulk(&key)].concat())
        }
        _ => Answer::Standard,
    });
    let proxy = Proxy::start(fake.addrs(), &[]);
    for mut client in [proxy.client(), proxy.client_resp3()] {
        for (announced, line, key, asks) in routed().into_iter().filter(|(_, line, ..)| !line.is_empty()) {
            let (before, asked) = (arrived(&fake).len(), questions(&fake).len());
            assert_eq!(client.call(&words(line)), Value::Simple("OK".into()), "{line}");
            let seen = arrived(&fake).split_off(before);
            assert_eq!(seen.len(), 1, "{line}: {seen:?}");
            assert_eq!(show(&seen[0].bytes), show(&words(line)), "untouched");
            assert_eq!(seen[0].node, fake.owner(slot(key.as_bytes())), "{line}: {:?}", announced.keys);
            let asked = questions(&fake).split_off(asked);
            assert_eq!(asked.len(), usize::from(asks), "{line}");
            for question in asked {
                assert_eq!(show(&question.bytes), show(&words(&format!("COMMAND GETKEYS {line}"))));
            }
        }
    }
}

#[test]
fn keys_in_several_slots_are_refused_and_never_split() {
    let policy = "request_policy:multi_shard response_policy:agg_sum";
    let (fake, _told, proxy) = learned(&[
        Announced::new("i.all", "write").key(spec("index 1", "range -1 1 0", "RW")).tips(policy),
        Announced::new("i.read", "readonly").key(spec("index 1", "range -1 1 0", "RO")).tips(policy),
    ]);
    let mut client = proxy.client();
    for line in ["I.ALL a b c", "i.read a b"] {
        let reply = client.call(&words(line));
        assert_eq!(reply.error(), "CROSSSLOT Keys in request don't hash to the same slot", "{line}");
    }
    assert_eq!(client.call(&words("i.read {a}1 {a}2")), Value::Simple("OK".into()));
    assert_eq!(arrived(&fake).len(), 1);
}

#[test]
fn flags_categories_and_policies_that_are_refused_reach_no_node() {
    let keyed = |name: &str, flags: &str| Announced::new(name, flags).key(first());
    let refused = [
        (keyed("f.admin", "write admin"), "administration"),
        (keyed("f.admin2", "readonly ADMIN"), "administration"),
        (keyed("f.pubsub", "pubsub loading"), "publishes"),
        (keyed("f.danger", "write dangerous"), "dangerous"),
        (keyed("f.asking", "write asking"), "moved"),
        (keyed("c.danger", "write").acl("@write @dangerous"), "dangerous"),
        (keyed("c.admin", "write").acl("@admin"), "administration"),
        (keyed("c.conn", "readonly").acl("@connection @fast"), "connection"),
        (keyed("c.trans", "readonly").acl("@transaction"), "connection"),
        (Announced::new("n.write", "write"), "names no key"),
        (Announced::new("n.none", ""), "names no key"),
        (Announced::new("n.both", "readonly write"), "names no key"),
        (Announced::new("n.future", "of_the_future"), "names no key"),
        (Announced::new("p.write", "write").tips("request_policy:all_shards"), "request_policy"),
        (
            Announced::new("p.read", "readonly").tips("request_policy:all_shards response_policy:agg_sum"),
            "request_policy",
        ),
        (Announced::new("p.nodes", "readonly").tips("request_policy:all_nodes"), "request_policy"),
        (Announced::new("p.special", "readonly").tips("Request_Policy:special"), "request_policy"),
        (Announced::new("p.nokey", "readonly").tips("request_policy:multi_shard"), "request_policy"),
        (keyed("p.keyed", "write").tips("request_policy:all_shards"), "request_policy"),
        (keyed("p.other", "write").tips("request_policy:of_the_future"), "request_policy"),
    ];
    let all: Vec<Announced> = refused.iter().map(|(announced, _)| announced.clone()).collect();
    let (fake, _told, proxy) = learned(&all);
    let mut client = proxy.client();
    for (announced, why) in &refused {
        let line = format!("{} k v", announced.name.to_uppercase());
        let reply = client.call(&words(&line));
        let text = reply.error();
        let start = format!("ERR slotway: '{}', learned from the cluster, is refused: ", announced.name);
        assert!(text.starts_with(&start) && text.contains(why), "{line}: {text}");
    }
    assert_eq!(client.call(&words("SET k v")), Value::Simple("OK".into()), "the connection goes on");
    let seen = arrived(&fake);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(questions(&fake).is_empty());
}

#[test]
fn a_read_without_keys_goes_to_any_primary() {
    let (fake, _told, proxy) = learned(&[
        Announced::new("any.read", "readonly fast"),
        Announced::new("any.tip", "readonly").tips("nondeterministic_output response_policy:agg_sum"),
    ]);
    let mut client = proxy.client();
    for line in ["ANY.READ", "any.read some words", "ANY.TIP 1"] {
        assert_eq!(client.call(&words(line)), Value::Simple("OK".into()), "{line}");
    }
    let seen: Vec<_> = arrived(&fake).into_iter().map(|seen| show(&seen.bytes)).collect();
    assert_eq!(seen, ["ANY.READ", "any.read some words", "ANY.TIP 1"].map(|line| show(&words(line))));
}

#[test]
fn a_request_without_its_keys_gets_redis_own_error_or_a_refusal() {
    let (fake, _told) = announcing(
        &[
            Announced::new("w.first", "write").key(first()),
            Announced::new("w.exact", "write").arity(3).key(first()),
            Announced::new("w.maybe", "write no_mandatory_keys movablekeys").key(spec(
                "index 1",
                "keynum 0 1 1",
                "RW",
            )),
            Announced::new("r.maybe", "readonly no_mandatory_keys movablekeys").key(spec(
                "index 1",
                "keynum 0 1 1",
                "RO",
            )),
            Announced::new("W.Word", "write movablekeys").key(spec("keyword KEY 1", "range 0 1 0", "RW")),
            Announced::new("r.word", "readonly movablekeys").key(spec("keyword KEY 1", "range 0 1 0", "RO")),
        ],
        |seen| match seen.arg(1).as_str() {
            "GETKEYS" => Answer::text("-ERR Invalid arguments specified for command"),
            _ => Answer::Standard,
        },
    );
    let proxy = Proxy::start(fake.addrs(), &[]);
    let mut client = proxy.client();
    let unknown = "ERR slotway: the keys of this command cannot be told, so no shard can be chosen; it was not executed";
    for (line, expected) in [
        ("W.FIRST", "ERR wrong number of arguments for 'w.first' command"),
        ("w.exact k", "ERR wrong number of arguments for 'w.exact' command"),
        ("w.maybe 0 x", unknown),
        ("w.word x y", unknown),
        ("nothing.like.it", "ERR unknown command 'nothing.like.it', with args beginning with: "),
    ] {
        assert_eq!(client.call(&words(line)).error(), expected, "{line}");
    }
    assert!(arrived(&fake).is_empty());
    for line in ["r.maybe 0 x", "r.word x y"] {
        assert_eq!(
            client.call(&words(line)),
            Value::Simple("OK".into()),
            "{line}: the node says what is wrong"
        );
    }
    proxy.wait_metric("slotway_errors_total", &["kind=\"keys_unknown\""], |count| count == 2.0);
}
