//! Decides which journal may write to a cluster: one journal, one cluster.
//!
//! The cluster has one *binding* for each namespace with a daemon: an object that names the journal, the
//! cluster and the last start that was bound. The journal records every binding twice: before the write
//! ([`BindingState::intended`]) and after it succeeded ([`BindingState::acknowledged`]). [`judge`] compares
//! journal and binding at a start, [`compare`] while a daemon runs.
//!
//! A mark identifies a start by its epoch and by the head of the journal at that moment. Each start records
//! an id of its own. Two copies of one journal that start from the same records therefore write different
//! heads. A stale copy finds a mark in the cluster that it has never written, and is refused.
//!
//! Not here: reading and writing the binding (`cluster::binding`), and the times at which that happens
//! (`engine::binding`).

use uuid::Uuid;

use crate::domain::ids::Uid;

/// Position of a journal at one moment, as recorded in the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingMark {
    /// Epoch of the daemon that wrote the mark.
    pub epoch: u64,
    /// Position of the journal's last record at that moment.
    pub position: u64,
    /// Hash of that record.
    pub hash: [u8; 32],
}

/// The journal's record of its own identity and of its binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingState {
    /// Id of the journal.
    pub journal: Uuid,
    /// Uid of the namespace `kube-system` of the bound cluster; none before the first binding.
    pub cluster: Option<Uid>,
    /// Journals that this journal has replaced.
    pub supersedes: Vec<Uuid>,
    /// The last mark that was certainly written to the cluster.
    pub acknowledged: Option<BindingMark>,
    /// The last mark that may have been written to the cluster: its write was intended.
    pub intended: Option<BindingMark>,
    /// Reason why no storage is freed until an operator confirms the cluster.
    pub doubt: Option<String>,
}

impl BindingState {
    /// State of a journal that was never bound.
    pub fn new(journal: Uuid) -> Self {
        Self {
            journal,
            cluster: None,
            supersedes: Vec::new(),
            acknowledged: None,
            intended: None,
            doubt: None,
        }
    }

    /// Whether objects that carry this journal id belong to this journal.
    pub fn owns(&self, journal: Uuid) -> bool {
        journal == self.journal || self.supersedes.contains(&journal)
    }
}

/// The binding as read from the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The bound journal.
    pub journal: Uuid,
    /// Uid of the cluster that the binding was made for.
    pub cluster: Uid,
    /// Mark of the last start or renewal of that journal.
    pub mark: BindingMark,
    /// Whether freeing storage is switched off for this namespace.
    pub no_free: bool,
}

/// Result of [`judge`]: action of a start on the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// No valid binding exists. A start creates one if the cluster has no objects of another journal.
    Absent {
        /// Uid of another cluster, if a binding was copied from there.
        copied_from: Option<Uid>,
    },
    /// The binding belongs to this journal, or this journal takes it over. A start renews it.
    Renew {
        /// The journal that is replaced.
        replaces: Option<Uuid>,
        /// Reason to suspect that the cluster state went back in time.
        doubt: Option<String>,
    },
}

/// Reason why a daemon must not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingRefusal {
    /// The journal belongs to another cluster.
    #[error("journal {journal} is bound to cluster {recorded}, and this is cluster {found}")]
    OtherCluster {
        journal: Uuid,
        /// The cluster in the journal.
        recorded: Uid,
        /// The cluster that the daemon is connected to.
        found: Uid,
    },
    /// Another journal is bound to this namespace.
    #[error("the namespace is bound to journal {bound}, and this is journal {journal}")]
    OtherJournal {
        journal: Uuid,
        /// The bound journal.
        bound: Uuid,
    },
    /// The journal is an older copy of the bound journal.
    #[error(
        "the binding is of epoch {} and record {}, which journal {journal} has never written: it is an older copy",
        .found.epoch, .found.position
    )]
    OlderCopy {
        journal: Uuid,
        /// The mark in the cluster.
        found: BindingMark,
    },
}

/// Judges the binding at a start. `take_over` is a journal that an operator allows this journal to replace.
///
/// # Errors
/// The daemon must not write to this cluster.
pub fn judge(
    state: &BindingState,
    found: Option<&Binding>,
    cluster: &Uid,
    take_over: Option<Uuid>,
) -> Result<Judgement, BindingRefusal> {
    if let Some(recorded) = state.cluster.as_ref().filter(|recorded| *recorded != cluster) {
        let (journal, recorded, found) = (state.journal, recorded.clone(), cluster.clone());
        return Err(BindingRefusal::OtherCluster { journal, recorded, found });
    }
    let Some(binding) = found else { return Ok(Judgement::Absent { copied_from: None }) };
    if binding.cluster != *cluster {
        return Ok(Judgement::Absent { copied_from: Some(binding.cluster.clone()) });
    }
    if binding.journal != state.journal {
        return other_journal(state, binding.journal, take_over);
    }
    match compare_marks(state, binding.mark) {
        Compared::Equal => Ok(Judgement::Renew { replaces: None, doubt: None }),
        Compared::Behind(why) => Ok(Judgement::Renew { replaces: None, doubt: Some(why) }),
        Compared::Ahead => Err(BindingRefusal::OlderCopy { journal: state.journal, found: binding.mark }),
    }
}

/// Judges a binding of another journal. If a bound journal was replaced by this one before and this one has
/// been bound since, the cluster state went back in time.
fn other_journal(
    state: &BindingState,
    bound: Uuid,
    take_over: Option<Uuid>,
) -> Result<Judgement, BindingRefusal> {
    let replaced = state.supersedes.contains(&bound);
    if replaced && state.acknowledged.is_some() {
        let why = format!("the binding names journal {bound}, which this journal has replaced already");
        return Ok(Judgement::Renew { replaces: Some(bound), doubt: Some(why) });
    }
    if replaced || take_over == Some(bound) {
        return Ok(Judgement::Renew { replaces: Some(bound), doubt: None });
    }
    Err(BindingRefusal::OtherJournal { journal: state.journal, bound })
}

/// Result of [`compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The binding names this journal and this start.
    Ours,
    /// The binding names another journal or a newer start. This daemon has to stop.
    Lost(String),
    /// The binding has an older mark than this daemon has written: the cluster state went back in time.
    WentBack(String),
}

/// Compares a binding with the last mark of the running daemon of this epoch.
pub fn compare(state: &BindingState, epoch: u64, found: &Binding) -> Standing {
    if found.journal != state.journal && state.supersedes.contains(&found.journal) {
        return Standing::WentBack(format!(
            "the binding names journal {}, which this journal has replaced",
            found.journal
        ));
    }
    if found.journal != state.journal {
        return Standing::Lost(format!("the namespace is bound to journal {}", found.journal));
    }
    if found.mark.epoch > epoch {
        return Standing::Lost(format!("a daemon of epoch {} is bound", found.mark.epoch));
    }
    match compare_marks(state, found.mark) {
        Compared::Equal => Standing::Ours,
        Compared::Behind(why) => Standing::WentBack(why),
        Compared::Ahead => Standing::Lost(format!(
            "a daemon with another copy of the journal is bound, at record {}",
            found.mark.position
        )),
    }
}

enum Compared {
    Equal,
    Behind(String),
    Ahead,
}

fn compare_marks(state: &BindingState, found: BindingMark) -> Compared {
    let Some(known) = state.acknowledged else {
        return if state.intended == Some(found) { Compared::Equal } else { Compared::Ahead };
    };
    if found == known || state.intended == Some(found) {
        return Compared::Equal;
    }
    let behind = (found.epoch, found.position) < (known.epoch, known.position);
    if behind && found.epoch <= known.epoch && found.position <= known.position {
        return Compared::Behind(format!(
            "the binding is of epoch {} and record {}, and it stood at epoch {} and record {} before",
            found.epoch, found.position, known.epoch, known.position
        ));
    }
    Compared::Ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn mark(epoch: u64, position: u64, hash: u8) -> BindingMark {
        BindingMark { epoch, position, hash: [hash; 32] }
    }

    fn bound(epoch: u64) -> BindingState {
        let at = mark(epoch, epoch * 10, epoch as u8);
        BindingState {
            cluster: Some(Uid::from("cluster-1")),
            acknowledged: Some(at),
            intended: Some(at),
            ..BindingState::new(id(1))
        }
    }

    fn binding(journal: u128, at: BindingMark) -> Binding {
        Binding { journal: id(journal), cluster: Uid::from("cluster-1"), mark: at, no_free: false }
    }

    fn at_start(state: &BindingState, found: Option<Binding>) -> Result<Judgement, BindingRefusal> {
        judge(state, found.as_ref(), &Uid::from("cluster-1"), None)
    }

    const RENEWED: Result<Judgement, BindingRefusal> = Ok(Judgement::Renew { replaces: None, doubt: None });

    #[test]
    fn journal_of_another_cluster_is_refused() {
        let refused = judge(&bound(3), None, &Uid::from("cluster-2"), None).expect_err("another cluster");
        assert!(matches!(refused, BindingRefusal::OtherCluster { .. }), "{refused}");
    }

    #[test]
    fn binding_copied_from_another_cluster_counts_as_absent() {
        let copied = Binding { cluster: Uid::from("cluster-0"), ..binding(7, mark(1, 1, 1)) };
        let copied_from = Some(Uid::from("cluster-0"));
        assert_eq!(at_start(&bound(3), Some(copied)), Ok(Judgement::Absent { copied_from }));
        assert_eq!(at_start(&bound(3), None), Ok(Judgement::Absent { copied_from: None }));
    }

    #[test]
    fn other_journal_is_refused_without_takeover() {
        let other = binding(2, mark(9, 90, 9));
        let refusal = BindingRefusal::OtherJournal { journal: id(1), bound: id(2) };
        assert_eq!(at_start(&bound(3), Some(other.clone())), Err(refusal.clone()));
        let cluster = Uid::from("cluster-1");
        assert_eq!(judge(&bound(3), Some(&other), &cluster, Some(id(4))), Err(refusal));
        let taken = Ok(Judgement::Renew { replaces: Some(id(2)), doubt: None });
        assert_eq!(judge(&bound(3), Some(&other), &cluster, Some(id(2))), taken);
    }

    #[test]
    fn rebuilt_journal_replaces_the_one_it_supersedes_once() {
        let other = binding(2, mark(9, 90, 9));
        let rebuilt = BindingState { supersedes: vec![id(2)], ..BindingState::new(id(1)) };
        let taken = Ok(Judgement::Renew { replaces: Some(id(2)), doubt: None });
        assert_eq!(at_start(&rebuilt, Some(other.clone())), taken);
        let again = BindingState { supersedes: vec![id(2)], ..bound(3) };
        let judged = at_start(&again, Some(other)).expect("renewed");
        assert!(matches!(judged, Judgement::Renew { doubt: Some(_), .. }), "{judged:?}");
    }

    #[test]
    fn acknowledged_and_intended_marks_are_equal() {
        assert_eq!(at_start(&bound(3), Some(binding(1, mark(3, 30, 3)))), RENEWED);
        // The daemon died between the write to the cluster and its acknowledgement.
        let died = BindingState { intended: Some(mark(4, 44, 4)), ..bound(3) };
        assert_eq!(at_start(&died, Some(binding(1, mark(4, 44, 4)))), RENEWED);
        assert_eq!(at_start(&died, Some(binding(1, mark(3, 30, 3)))), RENEWED, "before that write");
    }

    #[test]
    fn older_copy_of_the_journal_is_refused() {
        for ahead in [mark(4, 40, 4), mark(3, 31, 9), mark(3, 30, 9), mark(4, 20, 4), mark(2, 50, 2)] {
            let refused = at_start(&bound(3), Some(binding(1, ahead)));
            assert!(matches!(refused, Err(BindingRefusal::OlderCopy { .. })), "{ahead:?} {refused:?}");
        }
        // Both copies intend epoch 4, and the other one wrote first.
        let slower = BindingState { intended: Some(mark(4, 31, 7)), ..bound(3) };
        let refused = at_start(&slower, Some(binding(1, mark(4, 31, 8))));
        assert!(matches!(refused, Err(BindingRefusal::OlderCopy { .. })), "{refused:?}");
    }

    #[test]
    fn binding_behind_the_journal_raises_doubt() {
        for behind in [mark(2, 20, 2), mark(3, 29, 9), mark(1, 1, 1)] {
            let judged = at_start(&bound(3), Some(binding(1, behind))).expect("renewed");
            assert!(matches!(judged, Judgement::Renew { doubt: Some(_), .. }), "{behind:?} {judged:?}");
        }
    }

    #[test]
    fn running_daemon_stops_or_doubts() {
        let state = bound(3);
        assert_eq!(compare(&state, 3, &binding(1, mark(3, 30, 3))), Standing::Ours);
        let lost = |found: Binding| matches!(compare(&state, 3, &found), Standing::Lost(_));
        assert!(lost(binding(2, mark(3, 30, 3))), "another journal");
        assert!(lost(binding(1, mark(4, 40, 4))), "a newer start");
        assert!(lost(binding(1, mark(3, 30, 9))), "another copy");
        let back = compare(&state, 3, &binding(1, mark(2, 20, 2)));
        assert!(matches!(back, Standing::WentBack(_)), "{back:?}");
        let replaced = BindingState { supersedes: vec![id(2)], ..bound(3) };
        let back = compare(&replaced, 3, &binding(2, mark(9, 90, 9)));
        assert!(matches!(back, Standing::WentBack(_)), "{back:?}");
    }
}
