//! Canned replies of Redis 6.2, 7.0 and Valkey through the parser.

use redis_protocol::resp2::types::OwnedFrame::{self, Array, Error, Integer, Null};

use super::parse::{ParseError, parse_view};
use super::testkit::{addr, bulk, info, server, untold};
use super::view::View;

fn row(first: i64, last: i64, nodes: Vec<OwnedFrame>) -> OwnedFrame {
    Array([vec![Integer(first), Integer(last)], nodes].concat())
}

fn endpoint(host: OwnedFrame, port: i64, id: &str, metadata: &[&str]) -> OwnedFrame {
    Array(vec![host, Integer(port), bulk(id), Array(metadata.iter().map(|m| bulk(m)).collect())])
}

fn view(dialled: &str, slots: Vec<OwnedFrame>, nodes: &str) -> View {
    let [hello, count] = untold();
    parse_view(&addr(dialled), &[Array(slots), bulk(nodes), info("ok", 3), server(), hello, count]).unwrap()
}

fn at(view: &View, id: &str) -> String {
    view.rows[id].addr.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[test]
fn redis_6_2_rows_have_no_metadata() {
    let node = |port, id: &str| Array(vec![bulk("127.0.0.1"), Integer(port), bulk(id)]);
    let nodes = "\
07c3 127.0.0.1:30004@31004 slave e7d1 0 1426238317239 4 connected\n\
67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922 16383\n\
e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460\n";
    let rows = vec![
        row(0, 5460, vec![node(30001, "e7d1"), node(30004, "07c3")]),
        row(5461, 10922, vec![node(30002, "67ed")]),
    ];
    let view = view("127.0.0.1:30001", rows, nodes);
    assert_eq!(view.my_id, "e7d1");
    assert_eq!(view.claims.len(), 2);
    assert_eq!(
        (view.claims[1].first, view.claims[1].last, view.claims[1].owner.as_str()),
        (5461, 10922, "67ed")
    );
    assert_eq!(at(&view, "07c3"), "127.0.0.1:30004");
    let replica = &view.rows["07c3"];
    assert!(replica.flags.replica && !replica.has_slots && replica.link_up);
    assert_eq!((replica.primary_id.as_deref(), replica.config_epoch), (Some("e7d1"), 4));
    assert_eq!(view.cluster.current_epoch, 3);
    assert_eq!(view.server.redis_version.as_deref(), Some("7.0.15"));
}

#[test]
fn redis_7_host_names_and_aux_fields() {
    let nodes = "\
aa 10.0.0.1:6379@16379,n1.example,shard-id=69bc myself,master - 0 0 1 connected 0-16383\n\
bb 10.0.0.2:6379@16379,,shard-id=69bc slave aa 0 0 1 connected\n\
cc 10.0.0.3:6379@16379,n3.example master - 0 0 2 connected [7->-aa]\n";
    let rows = vec![row(
        0,
        16383,
        vec![
            endpoint(bulk("n1.example"), 6379, "aa", &["ip", "10.0.0.1"]),
            endpoint(bulk("?"), 6379, "bb", &["ip", "10.0.0.2"]),
        ],
    )];
    let view = view("10.0.0.9:7000", rows, nodes);
    assert_eq!(at(&view, "aa"), "n1.example:6379");
    assert_eq!(view.rows["aa"].aliases, [addr("10.0.0.1:6379")]);
    assert_eq!(at(&view, "cc"), "n3.example:6379", "as the others");
    assert_eq!(view.rows["cc"].aliases, [addr("10.0.0.3:6379")]);
    assert_eq!(at(&view, "bb"), "10.0.0.2:6379", "`?` on the asked node's port: its IP, not the asked node");
}

#[test]
fn unknown_hosts_mean_the_address_dialled() {
    for host in [Null, bulk(""), bulk("?")] {
        let nodes = "\
aa :7001@17001 myself,master - 0 0 1 connected 0-100\n\
bb 172.16.0.9:7002@17002 master - 0 0 2 connected 101-16383\n\
cc :7003@17003 slave aa 0 0 1 connected\n";
        let rows = vec![
            row(0, 100, vec![endpoint(host.clone(), 7001, "aa", &[])]),
            row(101, 16383, vec![endpoint(host.clone(), 7002, "bb", &["ip", "172.16.0.9"])]),
        ];
        let view = view("lb.example:7001", rows, nodes);
        assert_eq!(at(&view, "aa"), "lb.example:7001");
        assert_eq!(at(&view, "bb"), "lb.example:7002");
        assert_eq!(view.rows["bb"].aliases, [addr("172.16.0.9:7002")]);
        assert_eq!(at(&view, "cc"), "lb.example:7003");
    }
}

#[test]
fn ipv6_and_announced_ports() {
    let nodes = "\
aa fd00::1:6380@16380 myself,master - 0 0 1 connected 0-16383\n\
bb [fd00::2]:31002@41002 slave aa 0 0 1 connected\n";
    let rows = vec![row(0, 16383, vec![endpoint(bulk("fd00::1"), 6380, "aa", &[])])];
    let view = view("seed:6379", rows, nodes);
    assert_eq!(at(&view, "aa"), "[fd00::1]:6380");
    assert_eq!(view.rows["bb"].addr, Some(super::node::NodeAddr { host: "fd00::2".into(), port: 31002 }));
}

#[test]
fn flags_and_migrations() {
    let nodes = "\
aa 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-5 [93-<-bb] [77->-bb] [99999->-bb] [odd]\n\
bb 10.0.0.2:1@2 master,fail? - 0 0 2 connected 6-9\n\
cc 10.0.0.3:1@2 master,fail - 0 0 3 disconnected\n\
dd :0@0 slave,noaddr aa 0 0 1 disconnected\n\
ee 10.0.0.5:1@2 handshake - 0 0 0 disconnected\n\
ff 10.0.0.6:0@0 slave aa 0 0 1 connected\n";
    let view = view("10.0.0.1:1", vec![], nodes);
    let open: Vec<_> =
        view.rows["aa"].migrations.iter().map(|m| (m.slot, m.peer.as_str(), m.leaving)).collect();
    assert_eq!(open, [(93, "bb", false), (77, "bb", true)]);
    assert!(view.rows["aa"].is_healthy());
    assert!(view.rows["bb"].flags.pfail && !view.rows["bb"].flags.fail && !view.rows["bb"].is_healthy());
    assert!(view.rows["cc"].flags.fail && !view.rows["cc"].link_up);
    assert!(view.rows["dd"].flags.noaddr && view.rows["dd"].addr.is_none());
    assert!(view.rows["ee"].flags.handshake);
    assert_eq!(view.rows["ff"].addr, None, "port 0 is no address");
}

#[test]
fn valkey_version() {
    let valkey = bulk("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.0\r\n");
    let nodes = bulk("aa 10.0.0.1:1@2,,tls-port=0,shard-id=5 myself,master - 0 0 1 connected 0-1\n");
    let [hello, count] = untold();
    let answers = [Array(vec![]), nodes, info("ok", 1), valkey, hello, count];
    let view = parse_view(&addr("10.0.0.1:1"), &answers).unwrap();
    assert_eq!(view.server.valkey_version.as_deref(), Some("9.0.0"));
    assert!(view.rows["aa"].aliases.is_empty(), "an aux field is no host name");
}

#[test]
fn errors_of_the_node() {
    let good = || bulk("aa 10.0.0.1:1@2 myself,master - 0 0 1 connected\n");
    let parse = |slots: OwnedFrame, nodes: OwnedFrame, server: OwnedFrame| {
        let [hello, count] = untold();
        parse_view(&addr("h:1"), &[slots, nodes, info("ok", 1), server, hello, count]).map(|_| ())
    };
    let error = |text: &str| Error(text.to_owned());
    let disabled = error("ERR This instance has cluster support disabled");
    assert_eq!(parse(disabled, good(), server()), Err(ParseError::ClusterDisabled));
    let noauth = "NOAUTH Authentication required.";
    assert_eq!(parse(error(noauth), good(), server()), Err(ParseError::Auth(noauth.into())));
    assert_eq!(parse(error("LOADING x"), good(), server()), Err(ParseError::Loading));
    let noperm = "NOPERM this user has no permissions to run the 'cluster|nodes' command";
    assert_eq!(parse(Array(vec![]), error(noperm), server()), Err(ParseError::Refused(noperm.into())));
    assert_eq!(
        parse(Array(vec![]), good(), error("NOPERM no info for you")),
        Ok(()),
        "the version is a courtesy"
    );
    for (slots, nodes) in [
        (Integer(1), good()),
        (Array(vec![Integer(1)]), good()),
        (Array(vec![Array(vec![Integer(0)])]), good()),
        (Array(vec![row(0, 99999, vec![endpoint(bulk("h"), 1, "aa", &[])])]), good()),
        (Array(vec![row(0, 1, vec![endpoint(bulk("h"), 99999, "aa", &[])])]), good()),
        (Array(vec![row(0, 1, vec![endpoint(bulk("h"), 1, "not-in-nodes", &[])])]), good()),
        (Array(vec![]), bulk("nobody is myself\n")),
        (Array(vec![]), bulk("")),
        (Array(vec![]), Integer(5)),
    ] {
        assert!(matches!(parse(slots.clone(), nodes, server()), Err(ParseError::Form(_))), "{slots:?}");
    }
    assert!(parse_view(&addr("h:1"), &[]).is_err());
}

#[test]
fn commands_that_may_have_changed_are_noticed() {
    let mark = |server: OwnedFrame, modules: &[&[&str]], count: OwnedFrame| {
        let module = |fields: &&[&str]| Array(fields.iter().map(|field| bulk(field)).collect());
        let modules = Array(modules.iter().map(module).collect());
        let hello = Array(vec![bulk("id"), Integer(fastrand::i64(..)), bulk("modules"), modules]);
        let nodes = bulk("aa 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-1\n");
        let answers = [Array(vec![]), nodes, info("ok", 1), server, hello, count];
        parse_view(&addr("h:1"), &answers).unwrap().commands
    };
    let (one, two): (&[&str], &[&str]) = (&["name", "ft", "ver", "1"], &["name", "json", "ver", "1"]);
    let usual = mark(server(), &[one, two], Integer(240));
    assert_eq!(usual, mark(server(), &[two, one], Integer(240)), "neither order nor client id matter");
    let newer = bulk("redis_version:8.0.0\r\n");
    for other in [
        mark(newer, &[one, two], Integer(240)),
        mark(server(), &[one], Integer(240)),
        mark(server(), &[&["name", "ft", "ver", "2"], two], Integer(240)),
        mark(server(), &[one, two], Integer(241)),
        mark(server(), &[one, two], Error("NOPERM".into())),
    ] {
        assert_ne!(usual, other);
    }
}
