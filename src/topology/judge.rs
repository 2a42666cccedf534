//! Which views of a round count. Pure; the rule and its reasons stand in the module doc of
//! `topology`.

use std::collections::HashSet;

use super::agreed::Agreed;
use super::merge::merge;
use super::view::{Row, View};

/// What became of one node's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The table's details were taken from it.
    Taken,
    /// It was compared and counted.
    Compared,
    /// It counted, but it lags behind: its current epoch is lower than another's.
    Older,
    /// The node has not joined a cluster that serves slots.
    Joining,
    /// The node does not reach most primaries.
    CutOff,
    /// The node says `cluster_state:fail` while others say `ok`.
    StateFail,
    /// Nodes that it lists do not list it.
    Forgotten,
    /// The node is of another cluster.
    Foreign,
}

impl Verdict {
    /// As shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Taken => "taken",
            Verdict::Compared => "compared",
            Verdict::Older => "older",
            Verdict::Joining => "joining",
            Verdict::CutOff => "cut off",
            Verdict::StateFail => "cluster_state:fail",
            Verdict::Forgotten => "forgotten",
            Verdict::Foreign => "foreign",
        }
    }
}

/// The result of comparing the views of a round.
pub(crate) struct Judgement {
    /// One for each view, in the same order.
    pub verdicts: Vec<Verdict>,
    /// The picture to adopt, or why none is.
    pub outcome: Result<Agreed, String>,
}

/// Who was asked, as far as it matters for what may be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Every known reachable node and every seed: only then may a cluster that shares no node with
    /// the current one replace it.
    pub all: bool,
    /// No node of the current picture is connected: there is nothing left to protect from a node
    /// that is cut off.
    pub lost: bool,
}

/// Compares the views of one round with each other and with `current`. No view: an error.
pub(crate) fn judge(views: &[View], current: Option<&Agreed>, asked: Asked) -> Judgement {
    let mut unfit: Vec<Option<Verdict>> = views.iter().map(alone).collect();
    forgotten(views, &mut unfit);
    let guard = current.filter(|agreed| !agreed.tentative);
    let outcome = decide(views, &mut unfit, guard, asked);
    let verdicts = verdicts(views, &unfit, outcome.as_ref().ok());
    Judgement { verdicts, outcome }
}

fn decide(
    views: &[View],
    unfit: &mut [Option<Verdict>],
    guard: Option<&Agreed>,
    asked: Asked,
) -> Result<Agreed, String> {
    let groups = groups(views, unfit);
    let related = |group: &Vec<usize>| guard.is_none_or(|agreed| overlap(views, group, agreed) > 0);
    let rebuilt = guard.is_some() && asked.all && !groups.iter().any(related);
    let guard = guard.filter(|_| !rebuilt);
    let rank = |group: &&Vec<usize>| {
        let fit = group.iter().filter(|i| is_fit(unfit, **i)).count();
        let common = guard.map_or(0, |agreed| overlap(views, group, agreed));
        let epoch = group.iter().filter_map(|i| views.get(*i)).map(|v| v.cluster.current_epoch).max();
        (fit, common, epoch, group.len(), std::cmp::Reverse(group.first().copied()))
    };
    let chosen = groups.iter().filter(|g| rebuilt || related(g)).max_by_key(rank).cloned();
    for (i, verdict) in unfit.iter_mut().enumerate() {
        if verdict.is_none_or(|v| v == Verdict::CutOff) && !chosen.as_ref().is_some_and(|g| g.contains(&i)) {
            *verdict = Some(Verdict::Foreign);
        }
    }
    let Some(chosen) = chosen else { return Err(refusal(views, unfit)) };
    state_fail(views, unfit, &chosen);
    let fit: Vec<&View> =
        chosen.iter().filter(|i| is_fit(unfit, **i)).filter_map(|i| views.get(*i)).collect();
    if let ([only], Some(agreed)) = (fit.as_slice(), guard)
        && !agreed.nodes.contains_key(&only.my_id)
    {
        mark(views, unfit, &only.my_id, Verdict::Forgotten);
        return Err(refusal(views, unfit));
    }
    if !fit.is_empty() {
        return Ok(merge(&fit, guard, false));
    }
    if guard.is_some() && !(asked.all && asked.lost) {
        return Err(refusal(views, unfit));
    }
    let any: Vec<&View> = chosen.iter().filter_map(|i| views.get(*i)).collect();
    Ok(merge(&any, None, true))
}

/// What a view says against itself.
fn alone(view: &View) -> Option<Verdict> {
    let joining = view.claims.is_empty() || view.me().is_none_or(|me| me.flags.handshake);
    if joining {
        return Some(Verdict::Joining);
    }
    let owners: HashSet<&str> = view.claims.iter().map(|c| c.owner.as_str()).collect();
    let reached = owners.iter().filter(|id| view.rows.get(**id).is_some_and(Row::is_healthy)).count();
    // The same bound Redis has for going on with writes: a majority of the primaries with slots.
    (reached < owners.len() / 2 + 1).then_some(Verdict::CutOff)
}

/// A view is of a forgotten (or not yet known) node when most of the nodes it lists, and which were
/// asked too, do not list it; or when it lists nobody although others list it (it was reset).
fn forgotten(views: &[View], unfit: &mut [Option<Verdict>]) {
    let alone: Vec<bool> = views.iter().map(|view| view.knows() < 2).collect();
    let is_alone = |i: usize| alone.get(i).copied().unwrap_or(false);
    for (i, view) in views.iter().enumerate() {
        let others = || views.iter().enumerate().filter(|(j, _)| *j != i);
        let (mut all, mut back) = (0, 0);
        for (_, other) in others().filter(|(j, other)| !is_alone(*j) && lists(view, other)) {
            all += 1;
            back += usize::from(lists(other, view));
        }
        let reset = is_alone(i) && others().any(|(_, other)| lists(other, view));
        if (reset || back * 2 < all)
            && let Some(verdict) = unfit.get_mut(i).filter(|v| v.is_none())
        {
            *verdict = Some(Verdict::Forgotten);
        }
    }
}

fn lists(view: &View, other: &View) -> bool {
    view.rows.get(&other.my_id).is_some_and(|row| !row.flags.handshake)
}

/// Views that speak of the same cluster: connected by one listing the other. Views of joining and
/// forgotten nodes connect nothing.
fn groups(views: &[View], unfit: &[Option<Verdict>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, view) in views.iter().enumerate() {
        if !matches!(unfit.get(i), Some(None | Some(Verdict::CutOff))) {
            continue;
        }
        let touches = |group: &Vec<usize>| {
            group.iter().filter_map(|j| views.get(*j)).any(|other| lists(view, other) || lists(other, view))
        };
        let (touched, mut rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
        let mut group: Vec<usize> = touched.into_iter().flatten().collect();
        group.push(i);
        group.sort_unstable();
        rest.push(group);
        groups = rest;
    }
    groups
}

/// How many node ids a group of views shares with the current picture.
fn overlap(views: &[View], group: &[usize], agreed: &Agreed) -> usize {
    let rows = group.iter().filter_map(|i| views.get(*i)).flat_map(|view| view.rows.keys());
    rows.collect::<HashSet<_>>().into_iter().filter(|id| agreed.nodes.contains_key(*id)).count()
}

fn state_fail(views: &[View], unfit: &mut [Option<Verdict>], group: &[usize]) {
    let ok = |i: &usize| views.get(*i).is_some_and(|view| view.cluster.state_ok);
    if !group.iter().any(|i| is_fit(unfit, *i) && ok(i)) {
        return;
    }
    for i in group.iter().filter(|i| !ok(i)) {
        if let Some(verdict) = unfit.get_mut(*i).filter(|v| v.is_none()) {
            *verdict = Some(Verdict::StateFail);
        }
    }
}

fn is_fit(unfit: &[Option<Verdict>], i: usize) -> bool {
    matches!(unfit.get(i), Some(None))
}

fn mark(views: &[View], unfit: &mut [Option<Verdict>], id: &str, as_: Verdict) {
    for (view, verdict) in views.iter().zip(unfit) {
        if view.my_id == id {
            *verdict = Some(as_);
        }
    }
}

fn refusal(views: &[View], unfit: &[Option<Verdict>]) -> String {
    if unfit.iter().all(|v| *v == Some(Verdict::Joining)) && !views.is_empty() {
        return "the cluster has no slots yet".to_owned();
    }
    let each = views
        .iter()
        .zip(unfit)
        .filter_map(|(view, v)| v.map(|v| format!("{} is {}", view.dialled, v.label())));
    let mut each: Vec<String> = each.collect();
    // Sorted, so that the same refusal is the same sentence and is logged once.
    each.sort();
    format!("no view can be taken: {}", each.join(", "))
}

fn verdicts(views: &[View], unfit: &[Option<Verdict>], agreed: Option<&Agreed>) -> Vec<Verdict> {
    let each = views.iter().zip(unfit).map(|(view, unfit)| match (unfit, agreed) {
        (unfit, Some(agreed)) if agreed.base == view.dialled && (unfit.is_none() || agreed.tentative) => {
            Verdict::Taken
        }
        (Some(unfit), _) => *unfit,
        (None, Some(agreed)) if view.cluster.current_epoch < agreed.current_epoch => Verdict::Older,
        (None, _) => Verdict::Compared,
    });
    each.collect()
}
