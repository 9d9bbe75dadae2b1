//! To what objects and handles belong, according to a journal.

use std::collections::BTreeMap;

use crate::audit::orphans::{Item, Kind, Known, ObjectSeen, Standing, judge};
use crate::audit::testing::{journal, plan, script};
use crate::domain::ids::ObjectId;
use crate::journal::Entry;
use crate::machine::group::{Event, Reached};
use crate::records::{Decoded, decode};

fn object(kind: Kind, name: &str, run: Option<&str>, handle: Option<&str>) -> ObjectSeen {
    let namespace = if kind == Kind::VolumeSnapshot { "shop".to_owned() } else { String::new() };
    let id = ObjectId { namespace, name: name.to_owned(), uid: name.into() };
    ObjectSeen { kind, id, run: run.map(str::to_owned), journal: None, handle: handle.map(str::to_owned) }
}

fn judged(entries: &[Entry], objects: &[ObjectSeen]) -> Vec<Item> {
    judge(&Known::of(entries), objects, &BTreeMap::new())
}

fn standings(items: &[Item]) -> Vec<(Standing, &str)> {
    items.iter().map(|item| (item.standing, item.name.as_str())).collect()
}

#[tokio::test]
async fn objects_of_run_in_progress_are_owned() {
    let mut entries = journal(&script(None, false)).await;
    let cut = entries.iter().position(|entry| {
        matches!(decode(&entry.record), Ok(Decoded::Group(timed))
            if matches!(timed.event, Event::MilestoneReached { reached: Reached::VsBound(_), .. }))
    });
    entries.truncate(cut.expect("a receipt") + 1);
    let run = plan().run.to_string();
    let items = judged(&entries, &[object(Kind::VolumeGroupSnapshot, "group", Some(&run), None)]);
    assert_eq!(standings(&items), [(Standing::Owned, "group")], "its handles are its own affair");
}

#[tokio::test]
async fn group_object_of_completed_run_is_orphaned_and_not_to_be_deleted() {
    let entries = journal(&script(None, false)).await;
    let run = plan().run.to_string();
    let objects = [
        object(Kind::VolumeGroupSnapshotContent, "again", Some(&run), None),
        object(Kind::VolumeSnapshotContent, "first", Some(&run), Some("snap-01")),
        // Another tool restored this one: it has no labels of ours.
        object(Kind::VolumeSnapshotContent, "second", None, Some("snap-02")),
    ];
    let items = judged(&entries, &objects);
    assert_eq!(
        standings(&items),
        [
            (Standing::Orphaned, "snap-03"),
            (Standing::Orphaned, "again"),
            (Standing::Retained, "snap-01"),
            (Standing::Retained, "snap-02"),
            (Standing::Retained, "first"),
        ]
    );
    let again = items.iter().find(|item| item.name == "again").expect("listed");
    assert!(again.reason.contains("do not delete it before") && again.command.is_none(), "{}", again.reason);
}

#[tokio::test]
async fn leftover_of_rolled_back_run_has_a_command() {
    let entries = journal(&script(None, true)).await;
    let run = plan().run.to_string();
    let items = judged(&entries, &[object(Kind::VolumeSnapshot, "left", Some(&run), None)]);
    assert_eq!(standings(&items), [(Standing::Orphaned, "left")], "no handle of it is kept");
    assert_eq!(items[0].command.as_deref(), Some("kubectl delete volumesnapshot left -n shop"));
}

#[tokio::test]
async fn receipt_alone_names_the_storage() {
    let mut entries = journal(&script(None, false)).await;
    let keeps = crate::records::journal_options().keeps;
    entries.retain(|entry| keeps(&entry.record));
    let names: Vec<_> = judged(&entries, &[]).into_iter().map(|item| item.name).collect();
    assert_eq!(names, ["snap-01", "snap-02", "snap-03"]);
}
