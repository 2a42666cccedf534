//! Single steps of the data path, without a network: cutting requests and replies out of bytes, hash slots, the slot
//! table, the command table, splitting a request, merging the replies of its parts.
//!
//! Owns the inputs: those of the end-to-end workloads, built before the clock starts. It must never be read as the cost
//! of a request: most of that is the kernel's.

#![allow(clippy::unwrap_used, reason = "a benchmark of wrong input is to fail")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use slotway::command::SplitKind;
use slotway::command::table::CommandTable;
use slotway::protocol::Limits;
use slotway::protocol::reply::{ReplyScanner, array_elements};
use slotway::protocol::request::{Args, Span};
use slotway::protocol::scan::{RequestScanner, Scanned};
use slotway::reply::merge::Merge;
use slotway::router::slot::slot_of;
use slotway::router::split::{PartBytes, Split, SplitPlan, name as name_of, split};
use slotway::topology::node::{Node, NodeAddr, NodeId};
use slotway::topology::table::{Shard, SlotTable};
use slotway::worker::outgoing::Outgoing;
use slotway::worker::pool::BufferPool;

fn command(args: &[&str]) -> Vec<u8> {
    let bulks: String = args.iter().map(|arg| format!("${}\r\n{arg}\r\n", arg.len())).collect();
    format!("*{}\r\n{bulks}", args.len()).into_bytes()
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("key:{index:012}")).collect()
}

fn mget(count: usize) -> Vec<u8> {
    let keys = keys(count);
    command(&std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Cuts every request out of `input`; returns how many there were.
fn cut_requests(scanner: &mut RequestScanner, mut input: &[u8], limits: &Limits) -> usize {
    let mut count = 0;
    while !input.is_empty() {
        let Scanned::Request(len) = scanner.scan(input, limits, true).unwrap() else { break };
        input = input.get(len..).unwrap();
        scanner.reset();
        count += 1;
    }
    count
}

fn request_scanner(criterion: &mut Criterion) {
    let value = "v".repeat(64);
    let large = "v".repeat(16 * 1024);
    let inputs = [
        ("get", command(&["GET", "key:000000000001"]), 1),
        ("set 64 B", command(&["SET", "key:000000000001", &value]), 1),
        ("set 16 KiB", command(&["SET", "key:000000000001", &large]), 1),
        ("64 pipelined gets", command(&["GET", "key:000000000001"]).repeat(64), 64),
        ("mget of 10 keys", mget(10), 1),
        ("mget of 1,000 keys", mget(1_000), 1),
    ];
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("request scanner");
    for (name, input, requests) in &inputs {
        let mut scanner = RequestScanner::new();
        assert_eq!(cut_requests(&mut scanner, input, &limits), *requests);
        group.throughput(Throughput::Elements(*requests as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| cut_requests(&mut scanner, black_box(input), &limits));
        });
    }
    group.finish();
}

/// What resuming costs: the same request in pieces, as a slow client sends it.
fn request_scanner_in_pieces(criterion: &mut Criterion) {
    let input = mget(1_000);
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("request scanner, mget of 1,000 keys in pieces");
    for piece in [1usize, 64, 1_024] {
        let mut scanner = RequestScanner::new();
        group.bench_function(format!("{piece} bytes"), |bencher| {
            bencher.iter(|| {
                let mut arrived = 0;
                loop {
                    arrived = (arrived + piece).min(input.len());
                    let seen = black_box(input.get(..arrived).unwrap());
                    if let Scanned::Request(len) = scanner.scan(seen, &limits, true).unwrap() {
                        scanner.reset();
                        break len;
                    }
                }
            });
        });
    }
    group.finish();
}

fn bulk(len: usize) -> Vec<u8> {
    format!("${len}\r\n{}\r\n", "v".repeat(len)).into_bytes()
}

fn reply_scanner(criterion: &mut Criterion) {
    let ten = [b"*10\r\n".to_vec(), bulk(64).repeat(10)].concat();
    let inputs = [
        ("ok", b"+OK\r\n".to_vec()),
        ("bulk of 64 B", bulk(64)),
        ("bulk of 16 KiB", bulk(16 * 1024)),
        ("array of 10 bulks", ten.clone()),
    ];
    let mut group = criterion.benchmark_group("reply scanner");
    for (name, input) in &inputs {
        let mut scanner = ReplyScanner::new();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let end = scanner.scan(black_box(input)).unwrap();
                scanner.reset();
                end
            });
        });
    }
    group.bench_function("elements of an array of 10", |bencher| {
        bencher.iter(|| {
            let mut last = 0;
            array_elements(black_box(&ten), 10, |_, _, end| last = end).then_some(last)
        });
    });
    group.finish();
}

fn slot(criterion: &mut Criterion) {
    let long = "k".repeat(256);
    let inputs = [
        ("key of 16 B", "key:000000000001"),
        ("key of 256 B", long.as_str()),
        ("hash tag", "{user1000}.following"),
        ("empty hash tag", "{}key:000000000001"),
    ];
    let mut group = criterion.benchmark_group("slot");
    for (name, key) in inputs {
        group.bench_function(name, |bencher| bencher.iter(|| slot_of(black_box(key.as_bytes()))));
    }
    group.finish();
}

/// Three shards of two nodes each, slots in equal ranges.
fn three_shards() -> SlotTable {
    let node =
        |id| Arc::new(Node::new(NodeId(id), NodeAddr { host: "127.0.0.1".to_owned(), port: 7_000 + id }));
    let nodes = (0..6).map(node).collect();
    let shards = (0..3).map(|id| Shard { primary: NodeId(id), replicas: vec![NodeId(id + 3)] }).collect();
    SlotTable::new(1, shards, &[(0, 5_460, 0), (5_461, 10_922, 1), (10_923, 16_383, 2)], nodes)
}

fn table(criterion: &mut Criterion) {
    let table = three_shards();
    let keys = keys(1_024);
    let slots: Vec<u16> = keys.iter().map(|key| slot_of(key.as_bytes())).collect();
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(slots.len() as u64));
    group.bench_function("primary of 1,024 slots", |bencher| {
        bencher
            .iter(|| slots.iter().filter_map(|slot| table.primary(*slot)).map(NodeId::index).sum::<usize>());
    });
    group.bench_function("slot and primary of 1,024 keys", |bencher| {
        let owner = |key: &String| table.primary(slot_of(key.as_bytes()));
        bencher.iter(|| keys.iter().filter_map(owner).map(NodeId::index).sum::<usize>());
    });
    group.finish();
}

fn command_table(criterion: &mut Criterion) {
    let table = CommandTable::builtin();
    let mut group = criterion.benchmark_group("command table");
    for (title, args) in [("get", &["GET", "key"][..]), ("subcommand", &["object", "encoding", "key"])] {
        let request = command(args);
        let spans = spans(&request);
        group.bench_function(title, |bencher| {
            bencher.iter(|| table.lookup(black_box(&Args::new(&request, &spans))));
        });
    }
    group.finish();
}

/// Where the arguments of a whole request lie.
fn spans(request: &[u8]) -> Vec<Span> {
    let mut scanner = RequestScanner::new();
    assert_eq!(scanner.scan(request, &Limits::default(), true), Ok(Scanned::Request(request.len())));
    scanner.spans().to_vec()
}

/// The plan of a request whose keys lie in several slots.
fn plan_of(args: &Args<'_>, step: usize) -> SplitPlan {
    match split(args, step) {
        Split::Parts(plan) => plan,
        Split::OneSlot(_) => unreachable!("keys of several slots"),
    }
}

/// From the arguments of a request to the bytes of all its parts.
fn splitting(criterion: &mut Criterion) {
    let value = "v".repeat(64);
    let keys = keys(10);
    let pairs = keys.iter().flat_map(|key| [key.as_str(), value.as_str()]);
    let mset = command(&std::iter::once("MSET").chain(pairs).collect::<Vec<_>>());
    let inputs = [
        ("mget of 10 keys", mget(10), 1),
        ("mset of 10 keys", mset, 2),
        ("mget of 1,000 keys", mget(1_000), 1),
    ];
    let mut group = criterion.benchmark_group("split");
    for (name, request, step) in &inputs {
        let spans = spans(request);
        let args = Args::new(request, &spans);
        let mut out = Vec::with_capacity(2 * request.len());
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let plan = plan_of(black_box(&args), *step);
                for part in 0..plan.parts().len() {
                    PartBytes::new(args, name_of(&args), &plan, part, *step).write(&mut out);
                }
                out.len()
            });
        });
    }
    group.finish();
}

/// From the replies of all parts to the bytes for the client.
fn merging(criterion: &mut Criterion) {
    let pool = BufferPool::default();
    let mut group = criterion.benchmark_group("merge");
    for (name, kind, keys) in [
        ("mget of 10 keys", SplitKind::ByPosition, 10),
        ("mget of 1,000 keys", SplitKind::ByPosition, 1_000),
        ("del of 10 keys", SplitKind::Sum, 10),
    ] {
        let request = mget(keys);
        let spans = spans(&request);
        let plan = plan_of(&Args::new(&request, &spans), 1);
        let reply = |part| match (kind, plan.positions(part).len()) {
            (SplitKind::ByPosition, values) => {
                [format!("*{values}\r\n").into_bytes(), bulk(64).repeat(values)].concat()
            }
            (_, count) => format!(":{count}\r\n").into_bytes(),
        };
        let replies: Vec<Vec<u8>> = (0..plan.parts().len()).map(reply).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut merge = Merge::new(kind, std::rc::Rc::new(plan.clone()), false, 1 << 30);
                for (part, reply) in replies.iter().enumerate() {
                    merge.accept(part as u16, black_box(reply), None);
                }
                let mut out = Outgoing::default();
                merge.write(&mut out, &pool);
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    request_scanner,
    request_scanner_in_pieces,
    reply_scanner,
    slot,
    table,
    command_table,
    splitting,
    merging
);
criterion_main!(benches);
