//! Values arrive byte for byte, whatever they hold, however long they are and however they are cut
//! on their way in.

use std::io::{Read, Write};
use std::time::Duration;

use fastrand::Rng;

use crate::support::client::{Client, words};
use crate::support::cluster::RedisCluster;
use crate::support::keys::{key_in, slot};
use crate::support::proxy::Proxy;
use crate::support::resp::{Value, bulk, show};
use crate::support::{heavy, leave_out, shared};

/// Bytes that look like protocol wherever they can.
fn nasty(length: usize, random: &mut Rng) -> Vec<u8> {
    let pieces: [&[u8]; 8] =
        [b"\0", b"\r\n", b"\r", b"\n", b"-ERR no\r\n", b"$5\r\n", b"*2\r\n", b"\xff\xfe plain text "];
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        out.extend_from_slice(pieces[random.usize(..pieces.len())]);
    }
    out.truncate(length);
    out
}

#[test]
fn values_of_every_size_and_split_come_back_byte_for_byte() {
    need_redis!();
    let cluster = shared::cluster();
    let mut random = Rng::with_seed(11);
    for resp3 in [false, true] {
        let mut client = if resp3 { shared::proxy().client_resp3() } else { shared::client() };
        for size in
            [0, 1, 2, 3, 100, 1023, 1024, 1025, 16383, 16384, 16385, 65535, 65536, 65537, 1 << 20, 8 << 20]
        {
            let key = shared::unique("value");
            let value = nasty(size, &mut random);
            let largest = match size {
                0..=4000 => 1,
                4001..=70000 => 1500,
                _ => 200_000,
            };
            client.send_split(&cmd!["SET", key, value], largest, &mut random);
            assert_eq!(client.value(), Value::Simple("OK".into()), "SET of {size} bytes");
            let mut direct = cluster.client(cluster.initial_owner(slot(key.as_bytes())));
            assert!(direct.raw(&cmd!["GET", key]) == bulk(&value), "the node holds other bytes ({size})");
            assert!(client.raw(&cmd!["GET", key]) == bulk(&value), "GET of {size} bytes");
            client.ok(&cmd!["DEL", key]);
        }
    }
}

#[test]
fn every_split_of_a_small_pipeline_gives_the_same_replies() {
    need_redis!();
    let key = shared::unique("split");
    let mut pipeline = cmd!["SET", key, b"a\r\n\0b"];
    pipeline.extend(cmd!["GET", key]);
    pipeline.extend(b"PING inline\r\n");
    pipeline.extend(cmd!["MGET", key, "elsewhere", key]);
    pipeline.extend(cmd!["ECHO", ""]);
    let mut client = shared::client();
    client.send(&pipeline);
    let want: Vec<Vec<u8>> = (0..5).map(|_| client.reply()).collect();
    assert_eq!(want[1], bulk(b"a\r\n\0b"));
    assert_eq!(want[2], bulk(b"inline"));
    for at in 1..pipeline.len() {
        let (first, second) = pipeline.split_at(at);
        client.send(first);
        client.send(second);
        let got: Vec<Vec<u8>> = (0..5).map(|_| client.reply()).collect();
        assert_eq!(got, want, "cut after byte {at}: {}", show(first));
    }
    client.send_split(&pipeline, 1, &mut Rng::with_seed(1));
    let got: Vec<Vec<u8>> = (0..5).map(|_| client.reply()).collect();
    assert_eq!(got, want, "one byte at a time");
}

#[test]
fn pipelined_values_from_several_shards_arrive_whole_and_in_order() {
    need_redis!();
    let mut random = Rng::with_seed(12);
    let mut client = shared::client();
    let values: Vec<(String, Vec<u8>)> = (0..60)
        .map(|n| {
            let size = [0, 1, 20, 3000, 70_000, 1 << 20][n % 6];
            (key_in(n as u16 * 270, "mixed"), nasty(size, &mut random))
        })
        .collect();
    for (key, value) in &values {
        client.ok(&cmd!["SET", key, value]);
    }
    let order: Vec<usize> = (0..300).map(|_| random.usize(..values.len())).collect();
    let gets: Vec<u8> = order.iter().flat_map(|&n| cmd!["GET", values[n].0]).collect();
    let mut sender = client.stream().try_clone().expect("clone");
    let writer = std::thread::spawn(move || sender.write_all(&gets));
    for n in order {
        assert!(client.reply() == bulk(&values[n].1), "value of {}", values[n].0);
    }
    writer.join().expect("writer").expect("write");
}

#[test]
fn missing_values_are_null_in_the_clients_version() {
    need_redis!();
    let key = shared::unique("missing");
    assert_eq!(shared::client().raw(&cmd!["GET", key]), b"$-1\r\n");
    assert_eq!(shared::proxy().client_resp3().raw(&cmd!["GET", key]), b"_\r\n");
}

const HUGE: usize = 512 * 1024 * 1024;
const PIECE: usize = 1 << 20;

/// Piece `n` of the huge value, different for each.
fn piece(n: usize) -> Vec<u8> {
    let mut out = vec![0; PIECE];
    Rng::with_seed(n as u64).fill(&mut out);
    out
}

fn send_huge(client: &mut Client, key: &str) {
    client.stream().set_write_timeout(Some(Duration::from_secs(60))).expect("timeout");
    client.send(format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${HUGE}\r\n", key.len()).as_bytes());
    for n in 0..HUGE / PIECE {
        client.send(&piece(n));
    }
    client.send(b"\r\n");
}

fn read_huge(client: &mut Client) {
    let mut stream = client.stream();
    let mut head = vec![0; format!("${HUGE}\r\n").len()];
    stream.read_exact(&mut head).expect("the header");
    assert_eq!(head, format!("${HUGE}\r\n").into_bytes());
    let mut got = vec![0; PIECE];
    for n in 0..HUGE / PIECE {
        stream.read_exact(&mut got).expect("the value");
        assert!(got == piece(n), "piece {n} differs");
    }
    let mut end = [0; 2];
    stream.read_exact(&mut end).expect("the end");
    assert_eq!(&end, b"\r\n");
}

fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("MemAvailable:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[test]
fn value_of_512_mb_goes_in_and_out_in_bounded_memory() {
    need_redis!();
    let _one_at_a_time = heavy();
    if available_memory() < 6 << 30 {
        leave_out("less than 6 GiB of memory available for the 512 MB value");
        return;
    }
    let cluster = RedisCluster::start(1, 0);
    let proxy = Proxy::start(&cluster.addrs(), &[("workers", "1")]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(60));
    send_huge(&mut client, "huge");
    assert_eq!(client.value(), Value::Simple("OK".into()));
    assert_eq!(client.call(&cmd!["STRLEN", "huge"]), Value::Int(HUGE as i64));
    client.send(&words("GET huge"));
    read_huge(&mut client);
    assert_eq!(client.call(&words("PING")), Value::Simple("PONG".into()));
    let mib = peak_mib(&proxy);
    assert!(mib < 1700, "{mib} MiB at the peak for a value of 512 MiB");
}

/// Peak resident memory in MiB.
fn peak_mib(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("status");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|k| k.parse::<u64>().ok()).expect("KiB") / 1024
}
