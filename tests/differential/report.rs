//! What a run showed: undocumented differences with the shortest requests that show them, documented
//! ones that never appeared, and commands that never worked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::arguments::Shape;
use super::driver::{Difference, Outcome, Servers, shown};
use super::expect::{command_of, documented, refused};
use super::sequences::{Role, Sequence};
use crate::support::resp::show;

/// Differences reported in full.
const SHOWN_MAX: usize = 40;
/// Runs spent on making one failing sequence shorter.
const RUNS_MAX: usize = 120;

/// Commands that never succeed on either server of these tests, and why.
const NEVER: &[(&str, &str)] = &[
    ("function|kill", "no function runs"),
    ("script|kill", "no script runs"),
    ("config|rewrite", "the servers have no configuration file"),
    ("debug", "its subcommands are not documented, and servers refuse them by default"),
    ("latency|graph", "nothing is slow enough to be monitored"),
    ("script|debug", "not in a test"),
    ("cluster|count-failure-reports", "the node's id is drawn at start"),
    ("cluster|replicas", "the node's id is drawn at start"),
    ("cluster|slaves", "the node's id is drawn at start"),
    ("cluster|count-failure-reports", "no node has such an id"),
    ("cluster|replicas", "no node has such an id"),
    ("cluster|slaves", "no node has such an id"),
];

/// Documented differences that these servers never show, and why.
const UNSEEN: &[(&str, &str)] = &[
    ("latency|doctor", "nothing is slow enough to be monitored"),
    ("latency|graph", "nothing is slow enough to be monitored"),
    ("latency|reset", "nothing is slow enough to be monitored"),
    ("slowlog|get", "nothing is slow enough to be logged"),
];

/// Commands that work only once another one has.
const AFTER: &[(&str, &str)] =
    &[("fcall", "function|load"), ("fcall_ro", "function|load"), ("exec", "multi")];

/// So many documented arguments have to be in a request that worked; the others are refused, or rare.
const REACHED_PERCENT: usize = 97;

/// Everything seen so far.
pub struct Report<'a> {
    shapes: &'a [Shape],
    /// By command, so that one bug is told once.
    differences: BTreeMap<String, String>,
    found: usize,
    differed: BTreeSet<&'static str>,
    /// Per command: requests that succeeded, requests that are not refused.
    worked: BTreeMap<&'static str, (usize, usize)>,
    arguments: BTreeSet<(usize, usize)>,
    requests: usize,
}

impl<'a> Report<'a> {
    pub fn new(shapes: &'a [Shape]) -> Self {
        Self {
            shapes,
            differences: BTreeMap::new(),
            found: 0,
            differed: BTreeSet::new(),
            worked: BTreeMap::new(),
            arguments: BTreeSet::new(),
            requests: 0,
        }
    }

    /// Takes in what a sequence showed; a new difference is made as short as it gets.
    pub fn add(&mut self, servers: &Servers, sequence: &Sequence, outcome: Outcome, resp3: bool) {
        self.requests += sequence.requests.len();
        self.differed.extend(&outcome.differed);
        for request in &sequence.requests {
            if let Some((index, _)) = &request.shows
                && command_of(&request.args).is_some()
                && !refused(&request.args)
            {
                self.worked.entry(self.shapes[*index].name).or_default().1 += 1;
            }
        }
        for index in &outcome.succeeded {
            if let Some((shape, shown)) = &sequence.requests[*index].shows {
                self.worked.entry(self.shapes[*shape].name).or_default().0 += 1;
                self.arguments.extend(shown.iter().map(|argument| (*shape, *argument)));
            }
        }
        if let Some(difference) = outcome.difference {
            self.found += 1;
            let request = &sequence.requests[difference.index];
            let name = String::from_utf8_lossy(&request.args[0]).to_lowercase();
            if !self.differences.contains_key(&name) && self.differences.len() < SHOWN_MAX {
                self.differences.insert(name, shortened(servers, sequence, difference, resp3));
            }
        }
    }

    /// Fails where anything is not as documented.
    pub fn finish(self) {
        let mut text = String::new();
        for difference in self.differences.values() {
            let _ = writeln!(text, "{difference}");
        }
        let unseen = |name: &&str| UNSEEN.iter().any(|(known, _)| known == name);
        for name in documented().into_iter().filter(|name| !self.differed.contains(name) && !unseen(name)) {
            let _ = writeln!(text, "{name}: a documented difference that was never seen");
        }
        for (name, (worked, tried)) in &self.worked {
            let waits = AFTER.iter().any(|(later, first)| later == name && !self.worked.contains_key(first));
            let never = NEVER.iter().any(|(known, _)| known == name);
            if (*worked == 0) != never && !waits {
                let _ = writeln!(text, "{name}: {worked} of {tried} requests worked");
            }
        }
        let (reached, all) = self.options();
        if reached * 100 < all * REACHED_PERCENT {
            let _ = writeln!(text, "only {reached} of {all} arguments were in a request that worked");
        }
        assert!(text.is_empty(), "{} sequences differ, {} requests\n{text}", self.found, self.requests);
    }

    /// How many documented arguments of commands that work were in a request that worked, and of how many.
    /// With `DIFFERENTIAL_VERBOSE` says which were not.
    fn options(&self) -> (usize, usize) {
        let verbose = std::env::var_os("DIFFERENTIAL_VERBOSE").is_some();
        let (mut reached, mut all) = (0, 0);
        for (index, shape) in self.shapes.iter().enumerate() {
            let Some((worked @ 1.., tried)) = self.worked.get(shape.name) else { continue };
            let (good, dull): (Vec<usize>, Vec<usize>) =
                (0..shape.arguments).partition(|argument| self.arguments.contains(&(index, *argument)));
            reached += good.len();
            all += shape.arguments;
            if verbose && !dull.is_empty() {
                eprintln!("{}: {worked} of {tried} worked, never with arguments {dull:?}", shape.name);
            }
        }
        (reached, all)
    }
}

/// The difference with as few requests before it as still show it.
fn shortened(servers: &Servers, sequence: &Sequence, first: Difference, resp3: bool) -> String {
    let mut only: Vec<usize> = (0..=first.index).collect();
    let mut best = first;
    let mut runs = 0;
    // A request whose reply the last one is compared with stays.
    let needed = 1 + usize::from(best.index > 0 && sequence.requests[best.index - 1].role == Role::Whole);
    let mut size = only.len() / 2;
    while size > 0 && runs < RUNS_MAX {
        let mut start = 0;
        while start + needed < only.len() && runs < RUNS_MAX {
            let end = (start + size).min(only.len() - needed);
            let fewer: Vec<usize> = only[..start].iter().chain(&only[end..]).copied().collect();
            runs += 1;
            match servers.run(sequence, &fewer, resp3).difference {
                Some(difference) if difference.index == best.index => {
                    only = fewer;
                    best = difference;
                }
                _ => start = end,
            }
        }
        size /= 2;
    }
    let mut text =
        format!("--- {} (RESP{}), batches of {}\n", sequence.name, 2 + u8::from(resp3), sequence.batch);
    for index in &only {
        let _ = writeln!(text, "    {}", line(&sequence.requests[*index].args));
    }
    let _ = writeln!(text, "  {}", best.why);
    let _ = writeln!(text, "  single:  {}", shown(&best.want));
    let _ = writeln!(text, "  slotway: {}", shown(&best.got));
    text
}

/// A request for people; many or long arguments are cut.
fn line(args: &[Vec<u8>]) -> String {
    let one = |arg: &Vec<u8>| match arg.get(..200) {
        Some(start) => format!("{}… ({} bytes)", show(start), arg.len()),
        None => show(arg),
    };
    let mut words: Vec<String> = args.iter().take(30).map(one).collect();
    if args.len() > words.len() {
        words.push(format!("… ({} arguments)", args.len()));
    }
    words.join(" ")
}
