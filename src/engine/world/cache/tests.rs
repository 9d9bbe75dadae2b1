//! The order of looks.

use super::*;
use crate::cluster::kinds::VolumeSnapshot;
use serde_json::json;

fn snapshot(name: &str, uid: &str, version: &str) -> VolumeSnapshot {
    owned(name, uid, version, "")
}

fn owned(name: &str, uid: &str, version: &str, group: &str) -> VolumeSnapshot {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": version},
    });
    if !group.is_empty() {
        object["status"] = json!({"volumeGroupSnapshotName": group});
    }
    serde_json::from_value(object).expect("a VolumeSnapshot")
}

/// What the cache holds: name, uid and version.
fn held(cache: &Cache<VolumeSnapshot>) -> Vec<(String, String, String)> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    cache
        .all()
        .map(|object| &object.metadata)
        .map(|meta| (text(&meta.name), text(&meta.uid), text(&meta.resource_version)))
        .collect()
}

fn check(cache: &Cache<VolumeSnapshot>, expected: &[(&str, &str, &str)]) {
    let owned = |t: &(&str, &str, &str)| (t.0.to_owned(), t.1.to_owned(), t.2.to_owned());
    assert_eq!(held(cache), expected.iter().map(owned).collect::<Vec<_>>());
}

fn listed(objects: Vec<VolumeSnapshot>) -> Cache<VolumeSnapshot> {
    let mut cache = Cache::default();
    relist(&mut cache, objects);
    cache
}

fn relist(cache: &mut Cache<VolumeSnapshot>, objects: Vec<VolumeSnapshot>) {
    cache.feed(Event::Init);
    objects.into_iter().for_each(|object| drop(cache.feed(Event::InitApply(object))));
    cache.feed(Event::InitDone);
}

#[test]
fn an_older_event_never_overwrites_an_answer() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    assert!(!cache.absorb(Arc::new(snapshot("a", "u1", "10")), 0).is_empty());
    assert!(
        cache.feed(Event::Apply(snapshot("a", "u1", "9"))).is_empty(),
        "nothing changed, nobody is woken"
    );
    check(&cache, &[("a", "u1", "10")]);
    cache.feed(Event::Apply(snapshot("a", "u1", "11")));
    check(&cache, &[("a", "u1", "11")]);
}

#[test]
fn versions_are_numbers_not_texts() {
    let mut cache = listed(vec![snapshot("a", "u1", "9")]);
    cache.feed(Event::Apply(snapshot("a", "u1", "10")));
    check(&cache, &[("a", "u1", "10")]);
}

#[test]
fn what_is_gone_is_not_brought_back_by_late_events() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    assert!(!cache.bury("shop", "a", "u1").is_empty());
    assert!(cache.feed(Event::Apply(snapshot("a", "u1", "8"))).is_empty());
    check(&cache, &[]);
    cache.feed(Event::Delete(snapshot("a", "u1", "9")));
    cache.feed(Event::Apply(snapshot("a", "u2", "10")));
    check(&cache, &[("a", "u2", "10")]);
}

#[test]
fn the_end_of_one_object_is_not_the_end_of_its_successor() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    cache.absorb(Arc::new(snapshot("a", "u2", "9")), 0);
    cache.feed(Event::Delete(snapshot("a", "u1", "8")));
    cache.bury("shop", "a", "u1");
    check(&cache, &[("a", "u2", "9")]);
}

#[test]
fn a_late_answer_does_not_bring_back_what_the_watch_has_buried() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    cache.feed(Event::Delete(snapshot("a", "u1", "7")));
    cache.absorb(Arc::new(snapshot("a", "u1", "6")), 0);
    check(&cache, &[]);
}

#[test]
fn a_relist_removes_what_it_does_not_list() {
    let mut cache = listed(vec![snapshot("a", "u1", "5"), snapshot("b", "u2", "6")]);
    relist(&mut cache, vec![snapshot("b", "u2", "6")]);
    check(&cache, &[("b", "u2", "6")]);
}

#[test]
fn a_relist_does_not_remove_what_is_younger_than_it() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    cache.feed(Event::Init);
    cache.absorb(Arc::new(snapshot("b", "u2", "9")), 0);
    cache.feed(Event::InitApply(snapshot("a", "u1", "5")));
    cache.feed(Event::InitDone);
    check(&cache, &[("a", "u1", "5"), ("b", "u2", "9")]);
}

#[test]
fn a_list_that_was_taken_before_a_delete_does_not_undo_it() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    cache.bury("shop", "a", "u1");
    relist(&mut cache, vec![snapshot("a", "u1", "5")]);
    cache.feed(Event::Apply(snapshot("a", "u1", "6")));
    check(&cache, &[]);
    assert_eq!(cache.tombstones.len(), 1);
    relist(&mut cache, vec![]);
    assert!(cache.tombstones.is_empty(), "a list without it ends the doubt");
}

#[test]
fn the_index_follows_the_objects() {
    let group = Topic::Group("shop".into(), "g".into());
    let mut cache = listed(vec![owned("a", "u1", "5", "g"), snapshot("b", "u2", "6")]);
    assert_eq!(cache.about(&group).count(), 1);
    let topics = cache.feed(Event::Apply(snapshot("a", "u1", "7")));
    assert!(topics.contains(&group), "whoever waits for the group hears that it lost a member");
    assert_eq!(cache.about(&group).count(), 0);
    relist(&mut cache, vec![]);
    assert!(cache.index.is_empty());
}

#[test]
fn a_namespace_is_read_without_its_neighbours() {
    let mut cache = listed(vec![snapshot("a", "u1", "5")]);
    let mut other = snapshot("a", "u9", "6");
    other.metadata.namespace = Some("shop2".to_owned());
    cache.feed(Event::Apply(other));
    assert_eq!(cache.within("shop").count(), 1);
    assert_eq!(cache.within("nowhere").count(), 0);
}
