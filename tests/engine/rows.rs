//! Every row of the recovery table is decided in a drill that ends right, or is on a short list that says why not.
//!
//! The drills here are chosen because rows are rare: each leads to some that nothing else does.

use std::collections::BTreeMap;

use stillpoint::drill::pool;
use stillpoint::drill::scenario::Case;
use stillpoint::machine::group::table::TABLE;

const DRILLS: &[&str] = &[
    "complete,n=2,seed=1",
    "complete,n=2,profile=slow,seed=1",
    "complete,n=2,profile=stale,seed=1",
    "keep-names,n=2,seed=1",
    "complete,n=2,class=retain,rival=swap-pvc@planned/before-record,seed=1",
    "keep-names,n=2,profile=stale,seed=34",
    "keep-names,n=2,rival=replace-vgs@delete-group/after-outcome,seed=1",
    "keep-names,n=2,rival=replace-vgs@restore-names/mid-effects,seed=1",
    "keep-names,n=2,rival=replace-vgs@restore-names/after-outcome,seed=1",
    "keep-names,n=2,rival=ownership-back@restore-names/before-intent,seed=1",
    "undo-uncut,n=2,seed=1",
    "undo-unsupported,n=2,seed=1",
    "undo-too-late,n=2,seed=1",
    "undo-created,n=2,seed=1",
    "undo-vsbound,n=2,seed=1",
    "undo-relabelled,n=2,seed=1",
    "undo-relabelled,n=2,class=retain,seed=1",
    "undo-retained,n=2,class=retain,seed=1",
    "undo-retained,n=2,kill=undo-delete-group/after-intent,profile=stale,seed=1",
    "complete,n=2,kill=clear-names/mid-effects,seed=1",
    "complete,n=2,kill=detach/mid-effects,seed=1",
    "undo-retained,n=2,class=retain,rival=delete-vgs@unwinding/before-record,seed=1",
    "undo-uncut,n=2,rival=replace-vgs@unwinding/after-record,seed=1",
    "complete,n=2,rival=replace-vgs@create/after-effects,seed=1",
    "complete,n=2,rival=replace-vgs@created/before-record,seed=1",
    "complete,n=2,rival=delete-namespace@delete-group/after-effects,seed=1",
    "complete,n=2,rival=delete-namespace@delete-content/after-effects,seed=1",
    "complete,n=2,kill=planned/after-record,down=1200,seed=1",
    "complete,n=2,rival=delete-namespace@create/before-intent,seed=1",
    "complete,n=3,rival=delete-vgs@create/after-effects,profile=stale,seed=1",
    "complete,n=2,rival=delete-vgs@create/after-effects,kill=create/after-effects,down=60,profile=stale,seed=3",
    "complete,n=2,rival=delete-pvc@planned/after-record,kill=planned/after-record,seed=1",
    "complete,n=2,rival=swap-pvc@planned/after-record,seed=1",
    "complete,n=2,rival=delete-vgs@created/after-record,seed=1",
    "complete,n=2,rival=delete-vgs@vs-bound/after-record,seed=1",
    "complete,n=2,rival=delete-vgsc@vs-bound/after-record,seed=1",
    "complete,n=2,rival=delete-vs@vs-bound/after-record,seed=1",
    "complete,n=2,rival=remove-labels@retained/after-record,seed=1",
    "complete,n=2,rival=vgsc-to-delete@retained/after-record,seed=1",
    "complete,n=2,rival=vsc-to-delete@retained/after-record,seed=1",
    "complete,n=2,rival=delete-vgs@retained/after-record,seed=1",
    "complete,n=2,rival=delete-vsc@retained/after-record,seed=1",
    "complete,n=2,rival=vgsc-to-delete@detach/before-intent,seed=1",
    "complete,n=2,rival=vsc-to-delete@detach/before-intent,seed=1",
    "complete,n=2,rival=delete-vs@delete-group/after-effects,seed=1",
    "complete,n=2,rival=delete-vsc@delete-group/after-effects,seed=1",
    "complete,n=2,rival=delete-vs@delete-content/after-effects,seed=1",
    "complete,n=2,rival=older-epoch@vs-bound/after-record,seed=1",
    "complete,n=2,rival=refuse-writes@create/before-intent,seed=1",
    "keep-names,n=2,rival=delete-vs@delete-content/after-effects,seed=1",
    "complete,n=2,rival=replace-vgs@clear-names/before-intent,seed=1",
    "complete,n=2,class=retain,rival=delete-vgs@relabelled/after-record,seed=1",
    "complete,n=2,rival=replace-vgs@cut/after-record,seed=1",
    "complete,n=2,rival=replace-vgs@cut/after-record,profile=slow,seed=1",
    "undo-created,n=2,rival=delete-vs@cut/after-record,seed=1",
    "undo-too-late,n=2,rival=replace-vgs@unwinding/before-record,seed=1",
    "complete,n=2,rival=remove-labels@detach/mid-effects,seed=1",
    "keep-names,n=2,rival=remove-labels@delete-content/before-intent,seed=1",
];

/// Rows that no drill here decides, and why.
const NOT_REACHED: &[(&str, &str)] = &[
    ("retained/all-gone", TWO),
    ("retained/refused", TWO),
    ("retained/refused-policies", TWO),
    ("retained/refused-labels", TWO),
    ("release/stub-refused", "tests/engine/asked.rs makes it stuck and resumes it"),
    ("undo/a-free-members", RACE),
    ("undo/c-look-bare", RACE),
    ("undo/c-delete-bare", RACE),
    ("undo/d-mark", RACE),
    ("undo/e-snapshots", DUEL),
    ("undo/e-snapshots-named", DUEL),
    ("undo/f-stub", DUEL),
    ("undo/f-stub-foreign", TWO),
    ("undo/e-kept", DUEL),
    ("undo/e-kept-foreign", TWO),
    ("retained/all-undone", DUEL),
    ("retained/nothing-left", DUEL),
    (
        "undo/f-never-retry",
        "no reason is transient before the group exists; kept for the table to be complete",
    ),
    ("abandoned/mend-group-policy", ABANDON),
    ("abandoned/mend-policies", ABANDON),
    ("abandoned/look", ABANDON),
    ("abandoned/failed", ABANDON),
];

const TWO: &str = "needs two who interfere at once; a drill has one rival";
const DUEL: &str = "needs two daemons that want opposite things: the duels of tests/engine/fence.rs";
const RACE: &str = "no drill here meets the instant at which it is decided";
const ABANDON: &str = "a person abandons the run: tests/engine/asked.rs does it";

#[test]
fn every_row_is_decided_in_a_drill_that_ends_right() {
    let cases: Vec<Case> = DRILLS.iter().map(|name| name.parse().expect(name)).collect();
    let played = pool::play_all(&cases, &|_| {});
    let mut reached: BTreeMap<&str, String> = BTreeMap::new();
    for one in &played {
        one.broken.iter().for_each(|broken| println!("{}: {broken}", one.case));
        one.stuck.iter().for_each(|row| println!("{}: stuck by {row}, then {}", one.case, one.end));
        for row in one.rows.iter().filter(|_| one.held()) {
            reached.entry(row).or_insert_with(|| one.case.to_string());
        }
    }
    for row in TABLE {
        let why = NOT_REACHED.iter().find(|(id, _)| *id == row.id).map(|(_, why)| *why);
        let by = reached.get(row.id).cloned().or(why.map(|why| format!("- {why}")));
        println!("{:<32} {}", row.id, by.unwrap_or_else(|| "NOTHING".to_owned()));
    }
    assert!(played.iter().all(|one| one.held()), "a drill does not hold");
    let forgotten: Vec<&str> = TABLE
        .iter()
        .map(|row| row.id)
        .filter(|id| !reached.contains_key(id) && !NOT_REACHED.iter().any(|(row, _)| row == id))
        .collect();
    assert!(forgotten.is_empty(), "no drill decides {forgotten:?}");
    let needless: Vec<&str> =
        NOT_REACHED.iter().map(|(id, _)| *id).filter(|id| reached.contains_key(id)).collect();
    assert!(needless.is_empty(), "a drill decides {needless:?}: take them off the list");
}
