//! An upstream that is one server: the seeds are its names and addresses, and it owns every slot. Names are
//! resolved anew in each refresh, so that a server that moved is found, and one that a name leads away from is
//! left. Whoever says that it is a replica gets nothing; of two primaries none is chosen.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::timeout;

use super::agreed::Agreed;
use super::gather::Gather;
use super::judge::Judgement;
use super::link::ask_once;
use super::node::NodeAddr;
use super::round::{Known, Plan, Round, ask_over};
use super::server::{Picture, says_primary, verdicts};
use super::view::View;

/// Asks every address of every seed and, whatever they lead to, the server in use.
pub(super) async fn run(plan: Plan) -> Round {
    let Plan { first, rest, current, config, .. } = plan;
    let known: Rc<Vec<Known>> = Rc::new(first.into_iter().chain(rest).collect());
    let resolved: Rc<RefCell<Vec<NodeAddr>>> = Rc::default();
    let mut gather: Gather<View> = Gather::new(|a, b| a.dialled == b.dialled);
    for node in known.iter().cloned() {
        let config = Rc::clone(&config);
        gather.ask(node.addr, async move { ask_over(&node.asks, &config).await });
    }
    let (asker, known, found) = (Rc::clone(&config), Rc::clone(&known), Rc::clone(&resolved));
    gather.seeds(&config.seeds, move |address: SocketAddr| {
        let addr = NodeAddr { host: address.ip().to_string(), port: address.port() };
        let connected = known.iter().find(|known| known.addr == addr).cloned();
        found.borrow_mut().push(addr);
        let config = Rc::clone(&asker);
        async move {
            match connected {
                Some(known) => ask_over(&known.asks, &config).await,
                None => ask_once(address, &config).await,
            }
        }
    });
    // A slow resolver must not hold up who needs a fresh look at the server in use.
    let patience = config.connect_timeout * 2;
    if current.is_none() || timeout(patience, gather.until_all()).await.is_err() {
        gather.until_enough().await;
    }
    let views = gather.found;
    let outcome = decide(&views, &resolved.borrow(), current.as_deref());
    let judgement = Judgement { verdicts: verdicts(&views, &outcome), outcome };
    Round::of_nodes(views, gather.failures, judgement)
}

/// The one primary among those that answered. `resolved`: where the seeds lead.
fn decide(views: &[View], resolved: &[NodeAddr], current: Option<&Agreed>) -> Result<Agreed, String> {
    let present = current.and_then(Agreed::sole_primary);
    let mut primaries: Vec<&View> = views.iter().filter(|view| view.is_primary()).collect();
    primaries.sort_by_key(|view| {
        let place = resolved.iter().position(|addr| *addr == view.dialled);
        (Some(&view.dialled) != present, place)
    });
    let mut named: Vec<&View> = Vec::new();
    for view in primaries.iter().filter(|view| resolved.contains(&view.dialled)) {
        let run = &view.server.run_id;
        // The same process by two addresses is one server.
        if !named.iter().any(|other| run.is_some() && other.server.run_id == *run) {
            named.push(view);
        }
    }
    let chosen = match named.as_slice() {
        [] => primaries.into_iter().find(|view| Some(&view.dialled) == present),
        [one] => Some(*one),
        [first, ..] if Some(&first.dialled) == present => Some(*first),
        several => {
            let names: Vec<String> = several.iter().map(|view| view.dialled.to_string()).collect();
            return Err(format!("the seeds lead to several primaries: {}", names.join(", ")));
        }
    };
    let picture = |primary: Option<&View>| Picture {
        primary: primary.map(|view| view.dialled.clone()),
        base: primary.map(|view| view.dialled.clone()).or_else(|| present.cloned()),
        compared: views.len(),
        ..Picture::default()
    };
    match chosen {
        Some(view) => Ok(picture(Some(view)).agreed(views)),
        // Nothing may be sent there any more: the slots have no owner until a primary is found.
        None if present.is_some_and(|addr| says_primary(views, addr) == Some(false)) => {
            Ok(picture(None).agreed(views))
        }
        None => {
            let mut names: Vec<String> = views.iter().map(|view| view.dialled.to_string()).collect();
            names.sort();
            Err(format!("{}: a replica; the seeds have to lead to its primary", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::topology::testkit::{addr, server_view};

    fn of(outcome: Result<Agreed, String>) -> Option<String> {
        outcome.unwrap().sole_primary().map(ToString::to_string)
    }

    #[test]
    fn the_primary_of_those_the_names_lead_to() {
        let views = [server_view("10.0.0.1:1", true), server_view("10.0.0.2:1", false)];
        let names = [addr("10.0.0.1:1"), addr("10.0.0.2:1")];
        assert_eq!(of(decide(&views, &names, None)).as_deref(), Some("10.0.0.1:1"));
        let error = decide(&views[1..], &names, None).unwrap_err();
        assert!(error.starts_with("10.0.0.2:1: a replica"), "{error}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_followed_once_somebody_answers_there() {
        let old = decide(&[server_view("10.0.0.1:1", true)], &[addr("10.0.0.1:1")], None).unwrap();
        let (views, names) = ([server_view("10.0.0.1:1", true)], [addr("10.0.0.2:1")]);
        assert_eq!(of(decide(&views, &names, Some(&old))).as_deref(), Some("10.0.0.1:1"));
        assert_eq!(of(decide(&views, &[], Some(&old))).as_deref(), Some("10.0.0.1:1"), "not resolved");
        let views = [server_view("10.0.0.1:1", true), server_view("10.0.0.2:1", true)];
        assert_eq!(of(decide(&views, &names, Some(&old))).as_deref(), Some("10.0.0.2:1"));
    }

    #[test]
    fn of_two_primaries_none_is_chosen_but_the_one_in_use_stays() {
        let views = [server_view("10.0.0.1:1", true), server_view("10.0.0.2:1", true)];
        let names = [addr("10.0.0.1:1"), addr("10.0.0.2:1")];
        assert!(decide(&views, &names, None).unwrap_err().contains("several primaries"));
        let old = decide(&views[1..], &names[1..], None).unwrap();
        assert_eq!(of(decide(&views, &names, Some(&old))).as_deref(), Some("10.0.0.2:1"));
        let mut twice = views;
        twice.iter_mut().for_each(|view| view.server.run_id = Some("run".to_owned()));
        assert_eq!(of(decide(&twice, &names, None)).as_deref(), Some("10.0.0.1:1"), "one server");
    }

    #[test]
    fn a_primary_that_became_a_replica_owns_nothing() {
        let names = [addr("10.0.0.1:1")];
        let old = decide(&[server_view("10.0.0.1:1", true)], &names, None).unwrap();
        let demoted = decide(&[server_view("10.0.0.1:1", false)], &names, Some(&old)).unwrap();
        assert_eq!(demoted.sole_primary(), None);
        assert_eq!(demoted.unowned(), [(0, 16383)]);
        let back = decide(&[server_view("10.0.0.1:1", true)], &names, Some(&demoted)).unwrap();
        assert_eq!(back.shards().len(), 1);
    }
}
