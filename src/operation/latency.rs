//! LATENCY and SLOWLOG of all nodes as one reply, as if one Redis had done what they did together. Pure: it is
//! given what the nodes said.

use std::collections::BTreeMap;

use super::tree::Tree;

/// Entries LATENCY HISTORY keeps (Redis' own bound per event).
const HISTORY: usize = 160;

/// SLOWLOG GET: the newest first, `most` of them.
pub(super) fn slowlog(replies: Vec<Tree>, most: usize) -> Option<Tree> {
    let mut entries = Vec::new();
    for reply in replies {
        for entry in reply.items()? {
            let [id, at, ..] = entry.items()? else { return None };
            entries.push(((at.number()?, id.number()?), entry.clone()));
        }
    }
    entries.sort_by(|(a, _), (b, _)| b.cmp(a));
    Some(Tree::List(entries.into_iter().take(most).map(|(_, entry)| entry).collect()))
}

/// LATENCY LATEST: per event when it last came, how long it was then, the longest ever; later fields are sums.
pub(super) fn latest(replies: Vec<Tree>) -> Option<Tree> {
    let mut events: Vec<(Tree, Vec<i64>)> = Vec::new();
    for reply in replies {
        for row in reply.items()? {
            let (event, numbers) = row.items()?.split_first()?;
            let numbers: Vec<i64> = numbers.iter().map(Tree::number).collect::<Option<_>>()?;
            match events.iter_mut().find(|(known, _)| known == event) {
                None => events.push((event.clone(), numbers)),
                Some((_, known)) => join(known, &numbers)?,
            }
        }
    }
    let row = |(event, numbers): (Tree, Vec<i64>)| {
        Tree::List(std::iter::once(event).chain(numbers.into_iter().map(Tree::of_number)).collect())
    };
    Some(Tree::List(events.into_iter().map(row).collect()))
}

fn join(known: &mut [i64], other: &[i64]) -> Option<()> {
    let ([at, latest, longest, sums @ ..], [other_at, other_latest, other_longest, more @ ..]) =
        (known, other)
    else {
        return None;
    };
    if (*other_at, *other_latest) > (*at, *latest) {
        (*at, *latest) = (*other_at, *other_latest);
    }
    *longest = (*longest).max(*other_longest);
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    Some(())
}

/// LATENCY HISTORY: per second the longest, as Redis keeps it.
pub(super) fn history(replies: Vec<Tree>) -> Option<Tree> {
    let mut seconds: BTreeMap<i64, i64> = BTreeMap::new();
    for reply in replies {
        for row in reply.items()? {
            let [at, latency] = row.items()? else { return None };
            let longest = seconds.entry(at.number()?).or_default();
            *longest = (*longest).max(latency.number()?);
        }
    }
    let skipped = seconds.len().saturating_sub(HISTORY);
    let row = |(at, latency)| Tree::List(vec![Tree::of_number(at), Tree::of_number(latency)]);
    Some(Tree::List(seconds.into_iter().skip(skipped).map(row).collect()))
}

/// A command's calls, and per bucket how many took no longer than that: of each node.
#[derive(Default)]
struct Histogram {
    calls: i64,
    nodes: Vec<BTreeMap<i64, i64>>,
}

impl Histogram {
    /// Counts are cumulative: a node that has no such bucket has as many as in the one below.
    fn buckets(&self) -> Vec<(Tree, Tree)> {
        let bounds: std::collections::BTreeSet<i64> =
            self.nodes.iter().flat_map(|node| node.keys().copied()).collect();
        let up_to = |bound: i64| {
            let of = |node: &BTreeMap<i64, i64>| node.range(..=bound).next_back().map_or(0, |(_, n)| *n);
            self.nodes.iter().map(of).fold(0, i64::saturating_add)
        };
        bounds.iter().map(|&bound| (Tree::of_number(bound), Tree::of_number(up_to(bound)))).collect()
    }
}

/// LATENCY HISTOGRAM: calls added, buckets added.
pub(super) fn histogram(replies: Vec<Tree>) -> Option<Tree> {
    let mut commands: Vec<(Tree, Histogram)> = Vec::new();
    for reply in replies {
        for (name, about) in reply.pairs()? {
            let at = commands.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                commands.push((name, Histogram::default()));
                commands.len() - 1
            });
            let (_, histogram) = commands.get_mut(at)?;
            for (field, value) in about.pairs()? {
                match field.text()? {
                    b"calls" => histogram.calls = histogram.calls.saturating_add(value.number()?),
                    _ => {
                        let buckets = value.pairs()?.into_iter();
                        let bucket = |(bound, n): (Tree, Tree)| Some((bound.number()?, n.number()?));
                        histogram.nodes.push(buckets.map(bucket).collect::<Option<_>>()?);
                    }
                }
            }
        }
    }
    let name = |text: &str| {
        let mut frame = Vec::new();
        crate::protocol::encode::bulk(&mut frame, text);
        Tree::Leaf(frame)
    };
    let row = |(command, histogram): (Tree, Histogram)| {
        let buckets = Tree::Map(histogram.buckets());
        let calls = Tree::of_number(histogram.calls);
        (command, Tree::Map(vec![(name("calls"), calls), (name("histogram_usec"), buckets)]))
    };
    Some(Tree::Map(commands.into_iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// `[a [1 2]]` and the like.
    fn tree(text: &str) -> Tree {
        fn one(words: &mut std::iter::Peekable<std::vec::IntoIter<String>>) -> Tree {
            let word = words.next().unwrap();
            if word != "[" {
                return match word.parse() {
                    Ok(number) => Tree::of_number(number),
                    Err(_) => Tree::Leaf(format!("${}\r\n{word}\r\n", word.len()).into_bytes()),
                };
            }
            let mut items = Vec::new();
            while words.peek().unwrap() != "]" {
                items.push(one(words));
            }
            words.next();
            Tree::List(items)
        }
        let spaced = text.replace('[', " [ ").replace(']', " ] ");
        let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
        one(&mut words.into_iter().peekable())
    }

    fn written(tree: Option<Tree>) -> Vec<u8> {
        let mut out = Vec::new();
        tree.unwrap().write(&mut out, crate::session::state::Resp::V2);
        out
    }

    fn same(tree_made: Option<Tree>, expected: &str) {
        assert_eq!(written(tree_made), written(Some(tree(expected))), "{expected}");
    }

    #[test]
    fn the_newest_slow_commands_first() {
        let a = tree("[[7 100 5 [get x] c n] [6 90 5 [get y] c n]]");
        let b = tree("[[3 95 9 [set z v] c n]]");
        same(slowlog(vec![a.clone(), b.clone()], 2), "[[7 100 5 [get x] c n] [3 95 9 [set z v] c n]]");
        same(
            slowlog(vec![a, b], usize::MAX),
            "[[7 100 5 [get x] c n] [3 95 9 [set z v] c n] [6 90 5 [get y] c n]]",
        );
        assert_eq!(slowlog(vec![tree("[1]")], 9), None);
    }

    #[test]
    fn the_latest_and_the_longest_of_an_event() {
        let replies = vec![tree("[[fork 10 5 50] [command 3 1 1]]"), tree("[[command 9 2 70]]")];
        same(latest(replies), "[[fork 10 5 50] [command 9 2 70]]");
        let replies = vec![tree("[[fork 10 5 50 100 2]]"), tree("[[fork 8 9 60 10 1]]")];
        same(latest(replies), "[[fork 10 5 60 110 3]]");
        same(latest(vec![tree("[]"), tree("[]")]), "[]");
    }

    #[test]
    fn history_by_second() {
        same(history(vec![tree("[[1 5] [3 9]]"), tree("[[1 7] [2 2]]")]), "[[1 7] [2 2] [3 9]]");
        let many = (0..200).map(|n| format!("[{n} 1]")).collect::<Vec<_>>().join(" ");
        let kept = history(vec![tree(&format!("[{many}]"))]).unwrap();
        assert_eq!(kept.items().unwrap().len(), HISTORY);
        assert_eq!(kept.items().unwrap()[0], tree("[40 1]"));
    }

    #[test]
    fn histograms_are_cumulative() {
        let a = tree("[get [calls 10 histogram_usec [1 4 4 10]] set [calls 1 histogram_usec [2 1]]]");
        let b = tree("[get [calls 6 histogram_usec [2 5 8 6]]]");
        same(
            histogram(vec![a, b]),
            "[get [calls 16 histogram_usec [1 4 2 9 4 15 8 16]] set [calls 1 histogram_usec [2 1]]]",
        );
    }
}
