//! A worker's thread: its runtime, its standing tasks, its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::limits::WorkerLimits;
use super::mailbox::{Accepted, Letter, Process};
use super::transport::Transport;
use super::wheel::STEP;
use super::{WorkerContext, flush};
use crate::error::ProxyError;
use crate::reply::merge::error_line;
use crate::session::Session;
use crate::session::state::{ClientSettings, ClientState, Resp, SessionMode};
use crate::session::task::SessionTask;
use crate::telemetry::{CloseReason, Counters};

/// Clients closed per step of the wheel while draining, at least: they come back elsewhere one after
/// another, not all at once.
const DRAINED_PER_STEP: usize = 64;
/// Tasks run between two looks at the sockets. More than tokio's 61: one turn should hold all clients
/// that are ready, so that their bytes leave in one write.
const TASKS_PER_TURN: u32 = 256;

/// Runs one worker until it is told to end.
pub fn run(
    process: Arc<Process>,
    index: usize,
    counters: Counters,
    limits: WorkerLimits,
    mailbox: mpsc::Receiver<Letter>,
) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_PER_TURN)
        .build_local(LocalOptions::default())?;
    let ended = runtime.block_on(async {
        let worker = WorkerContext::new(process, index, counters, limits);
        let flusher = tokio::task::spawn_local(flush::run(Rc::clone(&worker)));
        let follower = tokio::task::spawn_local(follow_topology(Rc::clone(&worker)));
        // Without one of them the worker would look alive and serve nobody.
        tokio::select! {
            () = serve(&worker, mailbox) => Ok(()),
            _ = flusher => Err(std::io::Error::other("nothing writes any more")),
            _ = follower => Err(std::io::Error::other("nothing follows the topology any more")),
        }
    });
    runtime.shutdown_background();
    ended
}

async fn follow_topology(worker: Rc<WorkerContext>) {
    let mut generation = worker.topology.generation();
    loop {
        worker.adopt_table();
        if generation.changed().await.is_err() {
            return;
        }
    }
}

/// Letters and the clock, until the end.
async fn serve(worker: &Rc<WorkerContext>, mut mailbox: mpsc::Receiver<Letter>) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = Instant::now();
    let mut draining = None;
    worker.counters.publish();
    loop {
        tokio::select! {
            letter = mailbox.recv() => match letter {
                Some(Letter::Client(client)) => open(worker, client),
                Some(Letter::Refuse(client, error)) => refuse(worker, client, error),
                Some(Letter::Clients(request, asking, reply)) => {
                    let _ = reply.send(crate::session::clients::perform(worker, &request, asking));
                }
                Some(Letter::Invalidation(id, push)) => worker.hear_invalidation(id, &push),
                Some(Letter::Publish(done)) => {
                    worker.counters.publish();
                    let _ = done.send(());
                }
                Some(Letter::Drain) => {
                    worker.unpause_clients();
                    draining = Some(drained_per_step(worker));
                }
                None => return,
            },
            _ = tick.tick() => {
                on_tick(worker, draining);
                if published.elapsed() >= Duration::from_secs(1) {
                    published = Instant::now();
                    worker.counters.publish();
                }
            }
        }
        if draining.is_some() && worker.sessions.borrow().is_empty() && worker.lingering.get() == 0 {
            worker.counters.publish();
            return;
        }
    }
}

/// So many that all have heard of it within half of `drain-timeout`.
fn drained_per_step(worker: &WorkerContext) -> usize {
    let steps = worker.process.config.drain_timeout.as_millis() / 2 / STEP.as_millis();
    let clients = worker.sessions.borrow().len();
    clients.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX).max(1)).max(DRAINED_PER_STEP)
}

fn on_tick(worker: &Rc<WorkerContext>, draining: Option<usize>) {
    let now = worker.clock.tick();
    worker.wheel.turn(now, |index, id| worker.sessions.borrow().get(index, id));
    worker.serve_waiting();
    worker.settle_budget();
    worker.settle_pause(now);
    worker.close_idle_dedicated();
    worker.close_idle_lines();
    if worker.limits.reads_replicas {
        worker.pass_by_late_replicas();
        worker.forget_readable();
    }
    worker.tick_subscriptions();
    if let Some(per_step) = draining {
        let some: Vec<_> =
            worker.sessions.borrow().iter().filter(|s| !s.inner().draining).take(per_step).cloned().collect();
        for session in some {
            session.drain();
        }
    }
}

/// Says why, and hangs up. A fresh socket takes so few bytes at once.
fn refuse(worker: &WorkerContext, accepted: Accepted, error: ProxyError) {
    use std::io::Write;
    worker.counters.error(error);
    worker.counters.closed(if error == ProxyError::MaxClients {
        CloseReason::MaxClients
    } else {
        CloseReason::Memory
    });
    let line = error_line(error);
    let _gone = match accepted {
        Accepted::Tcp(mut stream, _) => stream.write_all(&line),
        Accepted::Unix(mut stream) => stream.write_all(&line),
    };
}

/// Takes a new client.
fn open(worker: &Rc<WorkerContext>, accepted: Accepted) {
    let id = worker.process.next_client_id();
    let (transport, peer, local) = match into_transport(accepted) {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "a client was gone before it was served");
            worker.counters.closed(CloseReason::Error);
            worker.process.client_closed(worker.index, id);
            return;
        }
    };
    let (reader, writer) = transport.split();
    let client = ClientState {
        id,
        peer,
        local,
        connected: Instant::now(),
        resp: Resp::V2,
        authenticated: worker.process.config.client_password.is_none(),
        mode: SessionMode::Normal,
        settings: ClientSettings::default(),
        subscribed: false,
        tracking: None,
        names: None,
        commands: 0,
        last_command: None,
        last_active_ms: worker.clock.tick() / 1000,
    };
    let session = Session::new(Rc::clone(worker), client, writer);
    worker.sessions.borrow_mut().add(&session);
    worker.process.registry.insert(id, worker.index);
    worker.counters.client_opened();
    tokio::task::spawn_local(SessionTask::new(session, reader));
}

type Parts = (Transport, Option<std::net::SocketAddr>, Option<std::net::SocketAddr>);

fn into_transport(accepted: Accepted) -> std::io::Result<Parts> {
    match accepted {
        Accepted::Tcp(stream, peer) => {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            crate::listener::socket::prepare(&stream)?;
            let local = stream.local_addr().ok();
            Ok((Transport::Tcp(stream), Some(peer), local))
        }
        Accepted::Unix(stream) => {
            Ok((Transport::Unix(tokio::net::UnixStream::from_std(stream)?), None, None))
        }
    }
}
