//! Several questions asked at once, and how long their answers are waited for: whoever does not
//! answer must not delay those that do. Knows nothing of what is asked.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::link::{LinkError, resolve};
use super::node::NodeAddr;

/// How long the slower half is waited for.
const GRACE: Duration = Duration::from_millis(50);

type Answer<T> = (NodeAddr, Result<T, LinkError>);

/// Answers under way and come in.
pub(super) struct Gather<T> {
    tasks: JoinSet<()>,
    answers: (mpsc::Sender<Answer<T>>, mpsc::Receiver<Answer<T>>),
    /// Addresses asked so far; grows while seeds are resolved.
    asked: Rc<Cell<usize>>,
    same: fn(&T, &T) -> bool,
    /// What was answered, each only once.
    pub(super) found: Vec<T>,
    /// Who did not answer.
    pub(super) failures: Vec<(NodeAddr, LinkError)>,
}

impl<T: 'static> Gather<T> {
    /// Nothing is asked yet. `same`: two answers are one voice (a node under two addresses).
    pub(super) fn new(same: fn(&T, &T) -> bool) -> Self {
        let (asked, answers) = (Rc::new(Cell::new(0)), mpsc::channel(64));
        Self { tasks: JoinSet::new(), answers, asked, same, found: Vec::new(), failures: Vec::new() }
    }

    /// Waits for one answer more.
    pub(super) fn ask(
        &mut self,
        addr: NodeAddr,
        answer: impl Future<Output = Result<T, LinkError>> + 'static,
    ) {
        self.asked.set(self.asked.get() + 1);
        let to = self.answers.0.clone();
        self.tasks.spawn_local(async move {
            let _ = to.send((addr, answer.await)).await;
        });
    }

    /// Asks every address of every seed; names are resolved anew.
    pub(super) fn seeds<F>(&mut self, seeds: &[NodeAddr], ask: impl Fn(SocketAddr) -> F + Clone + 'static)
    where
        F: Future<Output = Result<T, LinkError>> + 'static,
    {
        for seed in seeds.iter().cloned() {
            let (ask, to, asked) = (ask.clone(), self.answers.0.clone(), Rc::clone(&self.asked));
            self.tasks.spawn_local(async move {
                match resolve(&seed).await {
                    Err(error) => {
                        asked.set(asked.get() + 1);
                        let _ = to.send((seed, Err(error))).await;
                    }
                    Ok(addresses) => {
                        asked.set(asked.get() + addresses.len());
                        ask_all(addresses, ask, &to).await;
                    }
                }
            });
        }
    }

    /// Half of those asked have answered, and the others had their grace; or nobody is left.
    pub(super) async fn until_enough(&mut self) {
        let mut grace_ends = None;
        while !self.is_complete() {
            let half = !self.found.is_empty() && self.found.len() * 2 >= self.asked.get();
            if half && grace_ends.is_none() {
                grace_ends = Some(Instant::now() + GRACE);
            }
            if !self.one_more(grace_ends).await {
                return;
            }
        }
    }

    /// Nobody is left.
    pub(super) async fn until_all(&mut self) {
        while self.one_more(None).await {}
    }

    /// Waits for one answer; false when there is none to come, or none until `deadline`.
    async fn one_more(&mut self, deadline: Option<Instant>) -> bool {
        if self.is_complete() {
            return false;
        }
        let until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            Some((addr, answer)) = self.answers.1.recv() => self.take(addr, answer),
            // A task that ends has sent its answers before.
            Some(_) = self.tasks.join_next() => {}
            () = sleep_until(until.into()) => return false,
        }
        while let Ok((addr, answer)) = self.answers.1.try_recv() {
            self.take(addr, answer);
        }
        true
    }

    fn take(&mut self, addr: NodeAddr, answer: Result<T, LinkError>) {
        match answer {
            Ok(found) if self.found.iter().any(|other| (self.same)(other, &found)) => {}
            Ok(found) => self.found.push(found),
            Err(error) => self.failures.push((addr, error)),
        }
    }

    /// Nothing is under way.
    pub(super) fn is_complete(&self) -> bool {
        self.tasks.is_empty() && self.answers.1.is_empty()
    }
}

async fn ask_all<T, F>(
    addresses: Vec<SocketAddr>,
    ask: impl Fn(SocketAddr) -> F,
    to: &mpsc::Sender<Answer<T>>,
) where
    T: 'static,
    F: Future<Output = Result<T, LinkError>> + 'static,
{
    let mut tasks = JoinSet::new();
    for address in addresses {
        let (answer, to) = (ask(address), to.clone());
        tasks.spawn_local(async move {
            let answer = answer.await;
            let addr = NodeAddr { host: address.ip().to_string(), port: address.port() };
            let _ = to.send((addr, answer)).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}
