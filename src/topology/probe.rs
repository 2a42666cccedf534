//! What a control connection asks beside PING where replicas are read: how far the node is with replication,
//! what a primary owns, and its zone. Pure. An answer that is an error tells nothing and is no failure: a
//! narrow ACL may forbid the question.

use std::time::Instant;

use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::own::{CLUSTER_NODES, OwnWord};
use super::replication::{Replication, Sample};

/// How far the node is.
pub(super) const INFO_REPLICATION: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";

/// What the node is.
const INFO_SERVER: &[u8] = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";

/// Probes from one question for the zone to the next; it hardly ever changes.
const ZONE_EVERY: u32 = 15;

/// Bytes of CLUSTER NODES for which a primary is asked at every probe; twice as many, at every other: in a
/// cluster of hundreds of nodes the question would be a burden.
const NODES_BYTES: usize = 16 << 10;

/// Decides what is asked when.
#[derive(Debug, Default)]
pub(super) struct Prober {
    probes: u32,
    /// The node said that it is a primary.
    is_primary: bool,
    /// Probes until a primary is asked for its slots.
    nodes_in: usize,
}

/// Questions that were asked, in this order, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Probe {
    replication: Option<OwnedFrame>,
    wants_nodes: bool,
    nodes: Option<OwnedFrame>,
    wants_server: bool,
    server: Option<OwnedFrame>,
}

impl Prober {
    /// Appends the questions of one probe.
    pub(super) fn ask(&mut self, out: &mut Vec<u8>) -> Probe {
        let wants_server = self.probes.is_multiple_of(ZONE_EVERY);
        self.probes = self.probes.wrapping_add(1);
        let wants_nodes = self.is_primary && self.nodes_in == 0;
        self.nodes_in = self.nodes_in.saturating_sub(1);
        out.extend_from_slice(INFO_REPLICATION);
        if wants_nodes {
            out.extend_from_slice(CLUSTER_NODES);
        }
        if wants_server {
            out.extend_from_slice(INFO_SERVER);
        }
        Probe { wants_nodes, wants_server, ..Probe::default() }
    }

    /// Takes the next answer; the sample when it was the last one. `asked`: when the questions were sent.
    pub(super) fn take(&mut self, probe: &mut Probe, answer: OwnedFrame, asked: Instant) -> Option<Sample> {
        let place = match probe {
            Probe { replication: place @ None, .. } => place,
            Probe { wants_nodes: true, nodes: place @ None, .. } => place,
            Probe { server: place, .. } => place,
        };
        *place = Some(answer);
        if (probe.wants_nodes && probe.nodes.is_none()) || (probe.wants_server && probe.server.is_none()) {
            return None;
        }
        let replication = text(&probe.replication).and_then(Replication::parse);
        self.is_primary = replication.as_ref().is_some_and(|said| said.is_primary);
        let own = text(&probe.nodes).and_then(|nodes| {
            self.nodes_in = nodes.len() / NODES_BYTES;
            OwnWord::of_text(nodes)
        });
        Some(Sample { asked, replication, own, zone: text(&probe.server).map(zone) })
    }
}

/// `availability_zone` of INFO server (Valkey from 8.0 on); empty for none.
pub(super) fn zone(info: &str) -> String {
    let mut lines = info.lines().filter_map(|line| line.trim_end().strip_prefix("availability_zone:"));
    lines.next().unwrap_or_default().to_owned()
}

fn text(answer: &Option<OwnedFrame>) -> Option<&str> {
    match answer {
        Some(OwnedFrame::Error(_)) | None => None,
        Some(frame) => frame.as_str(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::topology::testkit::bulk;

    const PRIMARY: &str = "# Replication\r\nrole:master\r\nmaster_replid:aa\r\nmaster_repl_offset:7\r\n";
    const NODES: &str = "e7d1 127.0.0.1:2@12 myself,master - 0 0 17 connected 0-4 [3->-67ed]\n";

    fn answers(prober: &mut Prober, answers: &[&str]) -> (String, Sample) {
        let mut out = Vec::new();
        let mut probe = prober.ask(&mut out);
        let (last, before) = answers.split_last().unwrap();
        for answer in before {
            assert!(prober.take(&mut probe, bulk(answer), Instant::now()).is_none(), "{answer}");
        }
        let sample = prober.take(&mut probe, bulk(last), Instant::now()).unwrap();
        (String::from_utf8(out).unwrap(), sample)
    }

    #[test]
    fn a_primary_is_asked_for_its_slots_and_everybody_now_and_then_for_the_zone() {
        let mut prober = Prober::default();
        let server = "# Server\r\nredis_version:7.2.4\r\navailability_zone:zone-a\r\n";
        let (asked, sample) = answers(&mut prober, &[PRIMARY, server]);
        assert!(asked.contains("server") && !asked.contains("NODES"), "not known yet to be a primary");
        assert_eq!(sample.zone.as_deref(), Some("zone-a"));
        let (asked, sample) = answers(&mut prober, &[PRIMARY, NODES]);
        assert!(!asked.contains("server") && asked.contains("NODES"));
        assert_eq!((sample.own.unwrap().leaving, sample.zone), (vec![(3, "67ed".to_owned())], None));
        let large = NODES.to_owned() + &"x".repeat(2 * NODES_BYTES);
        answers(&mut prober, &[PRIMARY, &large]);
        for expected in [false, false, true] {
            let mut out = Vec::new();
            assert_eq!(prober.ask(&mut out).wants_nodes, expected);
        }
    }

    #[test]
    fn errors_tell_nothing() {
        let mut prober = Prober::default();
        let mut probe = prober.ask(&mut Vec::new());
        let refused = || OwnedFrame::Error("NOPERM".to_owned());
        assert!(prober.take(&mut probe, refused(), Instant::now()).is_none());
        let sample = prober.take(&mut probe, refused(), Instant::now()).unwrap();
        assert_eq!((sample.replication, sample.zone), (None, None));
        assert!(prober.take(&mut Probe::default(), refused(), Instant::now()).is_some());
    }
}
