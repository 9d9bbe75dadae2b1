//! Tests that every row of the recovery table is decided in a drill that ends as expected.
//!
//! The drills here are chosen for rare rows: each drill leads to some that no other drill does.

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
    "undo-apart,n=2,seed=1",
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
    "complete,n=1,rival=delete-vgs@create/after-effects,profile=stale,seed=1",
    "complete,n=3,rival=delete-vgs@create/after-effects,profile=stale,seed=9",
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
    "complete,n=2,rival=delete-vgs@retained/after-record+vgsc-to-delete@retained/after-record,seed=1",
    "complete,n=2,rival=delete-vgs@retained/after-record+vsc-to-delete@retained/after-record,seed=1",
    "complete,n=2,rival=freeze-snapshot-controller@retained/after-record+delete-vgs@retained/after-record+vsc-to-delete@retained/after-record+refuse-writes@retained/after-record,seed=1",
    "complete,n=2,rival=freeze-snapshot-controller@retained/after-record+delete-vgs@retained/after-record+delete-vsc@retained/after-record,seed=1",
    "undo-retained,n=2,rival=delete-vgs@retained/after-record,seed=1",
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
    "complete,n=2,rival=delete-vgs@retained/after-record+tear-vgsc@retained/after-record,kill=retained/after-record,down=60,seed=1",
    "complete,n=2,rival=vgsc-to-delete@retained/after-record+refuse-writes@retained/after-record,seed=1",
    "complete,n=2,rival=vsc-to-delete@retained/after-record+refuse-writes@retained/after-record,seed=1",
    "complete,n=2,rival=remove-labels@retained/after-record+refuse-writes@retained/after-record,seed=1",
    "complete,n=2,rival=delete-vs@delete-content/after-effects+tear-vgsc@rebuild/after-outcome+refuse-writes@rebuild/after-outcome,seed=1",
    "undo-created,n=2,class=retain,rival=replace-vs@unwinding/before-record,seed=1",
    "undo-retained,n=2,rival=disown-members@unwinding/after-record+vgsc-to-delete@unwinding/after-record+delete-vgs@unwinding/after-record,kill=unwinding/after-record,down=60,seed=1",
    "undo-retained,n=2,rival=leave-stub@unwinding/after-record,seed=1",
    "undo-retained,n=2,rival=leave-stub@unwinding/after-record+replace-vgs@unwinding/after-record,seed=1",
    "undo-retained,n=2,rival=release-members@unwinding/after-record+delete-vgs@unwinding/after-record+tear-vgsc@unwinding/after-record,kill=unwinding/after-record,down=60,seed=1",
    "undo-retained,n=2,rival=release-members@unwinding/after-record+replace-vgs@unwinding/after-record+tear-vgsc@unwinding/after-record,kill=unwinding/after-record,down=60,seed=1",
    "complete,n=1,rival=delete-vgs@retained/after-record+tear-vgsc@retained/after-record+delete-vsc@retained/after-record,kill=retained/after-record,down=60,seed=1",
    "complete,n=2,rival=vgsc-to-delete@detach/after-outcome+abandon@detach/after-outcome,seed=1",
    "complete,n=2,rival=vsc-to-delete@detach/after-outcome+abandon@detach/after-outcome,seed=1",
    "complete,n=2,rival=disown-members@retained/after-record+vsc-to-delete@retained/after-record+delete-vgs@retained/after-record+tear-vgsc@retained/after-record,kill=retained/after-record,down=60,seed=1",
    "undo-retained,n=2,rival=delete-vgsc@unwinding/after-record+replace-vgs@unwinding/after-record,kill=unwinding/after-record,down=60,seed=1",
    "complete,n=2,rival=ownership-back@delete-group/after-outcome,seed=1",
    "keep-names,n=2,rival=replace-vgs@detach/before-intent,kill=detach/before-intent,down=60,seed=1",
    "complete,n=2,rival=forgotten-vgsc@backup/formed/after-record,seed=1",
    "complete,n=2,rival=freeze-snapshot-controller@retained/after-record+tear-vgsc@retained/after-record,kill=retained/after-record,seed=1",
    "complete,n=3,rival=tear-vgsc@detach/after-outcome,seed=1",
    "complete,n=2,rival=freeze-snapshot-controller@relabelled/after-record+tear-vgsc@relabelled/after-record,kill=relabelled/after-record,seed=1",
    "complete,n=3,rival=tear-vgsc@detach/after-outcome+abandon@detach/after-outcome,profile=slow,seed=1",
    "complete,n=2,rival=abandon@delete-content/after-effects,seed=1",
    "complete,n=2,rival=tear-vgsc@relabelled/after-record+replace-vgs@relabelled/after-record,seed=1",
    "complete,n=3,rival=delete-vs@claim/after-effects,kill=cut/after-record,down=1,profile=slow,seed=1",
    "complete,n=2,rival=delete-vgs-class@planned/after-record,seed=1",
    "complete,n=1,rival=delete-pvc@create/after-intent,seed=1",
    "complete,n=3,rival=delete-vgs-class@cut/after-record,profile=slow,seed=1",
    "complete,n=2,rival=delete-namespace@planned/after-record,kill=planned/after-record,down=60,seed=1",
    "complete,n=2,rival=delete-held-namespace@create/after-intent,truth=did-not-504@create,seed=1",
    "complete,n=2,rival=delete-held-namespace@cut/after-record,seed=1",
    "complete,n=2,rival=delete-held-namespace@detach/after-outcome,seed=1",
    "keep-names,n=2,rival=delete-held-namespace@delete-content/after-effects,seed=1",
    "complete,n=2,rival=delete-vs@delete-group/after-effects+refuse-writes@delete-group/after-outcome,seed=1",
    "complete,n=2,rival=delete-vs@delete-content/after-effects+refuse-writes@make-stub/after-outcome,seed=1",
    "complete,n=2,rival=refuse-writes@detach/after-outcome,seed=1",
    "complete,n=2,rival=vgsc-to-delete@detach/after-outcome+abandon@detach/after-outcome+refuse-writes@asked/after-record,seed=1",
];

/// The Backup of a drill shows the claim of a newer daemon first. `tests/engine/fence.rs` decides this row.
const ELSEWHERE: &str = "any/overtaken";

#[test]
fn passing_drills_decide_every_row() {
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
    for row in TABLE.iter() {
        let by = reached.get(row.id).map_or("NOTHING", String::as_str);
        println!("{:<32} {}", row.id, by);
    }
    assert!(played.iter().all(|one| one.held()), "a drill does not hold");
    let forgotten: Vec<&str> =
        TABLE.iter().map(|row| row.id).filter(|id| !reached.contains_key(id) && *id != ELSEWHERE).collect();
    assert!(forgotten.is_empty(), "no drill decides {forgotten:?}");
}
